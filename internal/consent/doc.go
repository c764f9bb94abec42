// Package consent keeps what is known of the consent of persons to get subscribe messages: WeChat
// tells it only by pushes, by its answers to sends, and to the mini program that asks the person.
//
// For each app, person and template there is an [Entry]: the one-time credits that are left, and the
// last refusals. Redis keeps the entries of a person in the hash wxcourier:{<app>}:consent:<person>, a
// field for each template, for [Keep] after the last change. The person is a keyed hash of the openid;
// its key is random, and in Redis at wxcourier:{<app>}:consents:key.
//
// # Counting
//
// An acceptance is one credit ([Store.Grant]). A send takes a credit in two steps: [Store.Reserve]
// before the call, and after it [Store.Commit] (WeChat took the message), [Store.Release] (it certainly
// did not) or [Store.Zero] (43101: there was no credit). After a call without an answer nothing is
// called: the reservation expires, and the credit counts as doubtful from then on. So does that of a
// worker that died between the steps.
//
// A wrong count must not keep a message from a person who wants it. Where the news leave a choice, the
// count is therefore too high rather than too low: the next call then meets 43101, which corrects it.
//
//   - Nothing is known before the first news. The first acceptance is counted from 0, although the
//     person may have credits from before. When a message is accepted although no credit was left,
//     the entry is corrected: such a person has credits that were not counted, and is not refused
//     before the next 43101.
//   - A message is often sent at once after the acceptance, before the push of it. Such a send leaves a
//     marker, and the push that follows does not add the credit that was spent. (The worker holds a
//     message back that was enqueued within seconds, and whose receiver has no credit.)
//   - An acceptance that happened before the call that met 43101 adds nothing: it was spent. One that
//     happened after the call began survives the 43101. Times of WeChat and of this machine may differ
//     by [Skew]; within it, the credit counts.
//   - The same acceptance may be pushed twice, and may also be reported by the mini program ([Reported]).
//     A push and a report within a minute are the same acceptance.
//   - A refused dialogue does not take away earlier credits, since WeChat does not say that it does. A
//     person who turns messages off ([TurnedOff]) gets none until a later acceptance.
//   - 43101 is not always final: persons were reached hours after a mass send had met it, and WeChat
//     does not tell when a person turns messages on again. After a refusal one call is therefore tried
//     again a day later, then after a week, and then every month. A count that went down to 0 by
//     counted sends is final.
package consent

// Package wxcouriertest provides what the tests of a service that sends through wxcourier need:
// a Redis, a stand-in for WeChat and a worker, inside the test's process, in one line.
//
//	func TestShipped(t *testing.T) {
//		kit := wxcouriertest.Start(t, wxcouriertest.Options{})
//		shop := newShop(kit.Client(), wxcouriertest.App)
//
//		shop.Shipped("42", "oBuyer")
//
//		if got := kit.Result("order-42-shipped"); got.Outcome != tasks.OutcomeAccepted {
//			t.Errorf("%+v", got)
//		}
//		if n := kit.WeChat.Delivered(wxcouriertest.App, "oBuyer", ""); n != 1 {
//			t.Errorf("delivered %d times", n)
//		}
//	}
//
// Each kit is independent of all others, so tests may run in parallel. All parts stop when the
// test ends. If the test has failed, the kit logs the calls that WeChat got, the results, and
// the log of the worker.
//
// # Refusals and faults
//
// Kit.WeChat is a [sandbox.Server]. Its methods refuse calls with any errcode, delay answers,
// lose connections, revoke tokens, use up quotas and credits, and list the calls. An openid that
// begins with the name of a fault needs no rule: a message to "unsubscribed-oBuyer" is refused
// with 43101.
//
// # Receipts and consents
//
// For an app with worker.App.Receipts the kit receives WeChat's pushes. [Kit.Receipt] waits for the
// receipt of a message, whose openid decides what it says ("userblock-oBuyer"). Kit.WeChat.Popup lets a
// person accept or reject a template, and [Kit.WaitPushes] waits until that is known: to
// tasks.Client.Consent, and to a worker of an app with worker.App.Consent. A media check ends with its
// verdict, so that [Kit.Result] waits for it.
//
// # Time
//
// [Kit.Advance] and [Kit.AdvanceTo] move one clock forward for all parts: the hours of an app,
// not_after, process_at, retries, holds, the quotas of a minute and a day, the expiry of tokens
// and the retention of results. A service under test that computes process_at or not_after
// reads [Kit.Now] in place of [time.Now].
//
// The clock also runs by itself, in real time. What lasts less than a second, such as a limit
// per second, and the timeout of a call (Options.CallTimeout) are real time only.
package wxcouriertest

// Package callback reads the messages and events that WeChat pushes to the callback URL (消息推送) of a
// mini program, an official account or a service provider (第三方平台): it verifies who sent them,
// decrypts them, and parses those of XML and of JSON into one type, [Push].
//
//	keys := callback.Keys{App: "wx0123456789abcdef", Token: token, AESKey: encodingAESKey}
//	http.Handle("/wechat", &callback.Handler{Keys: keys, Push: func(ctx context.Context, m callback.Message, p callback.Push) ([]byte, error) {
//		for _, receipt := range p.Receipts {
//			log.Println(receipt.MsgID, receipt.Delivery)
//		}
//		return nil, nil // answered with "success"
//	}})
//
// A program with a handler of its own calls the parts of [Handler]: [CheckAge], [Keys.VerifyQuery],
// [Keys.Open], [Parse] and [Keys.Reply]. [Keys.Seal] makes pushes as WeChat does, for tests.
//
// WeChat repeats a push that is not answered with status 200 within 5 s, twice; also one whose answer
// was lost on its way. [Push.Identity] tells repetitions apart from new pushes.
//
// No error of this package has a part of a push, a key or a token in its text.
package callback

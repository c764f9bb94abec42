// Package keyword has the rules for the values of a message template's keywords, such as thing1 and
// date2, and describes how a text breaks one:
//
//	keyword.Problem([]byte("phrase1"), text)
//	// 6 characters; a phrase keyword takes at most 5 Chinese characters and nothing else
//
// A description never contains the text, which may be personal; [DescribeRune] names the kind of a
// character instead.
package keyword

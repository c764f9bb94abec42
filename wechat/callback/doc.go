// Package callback reads the messages and events that WeChat pushes to the callback URL of a mini
// program, an official account or a service provider.
package callback

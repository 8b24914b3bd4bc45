// Package protocol is the wire format of RocketMQ's remoting: the command frame in both its header codecs,
// the request and response codes, the typed headers and the JSON bodies. It is pure: no I/O, no clock, no
// goroutine, no state. FORMAT.md beside this file tells the bytes.
package protocol

//go:generate go run ./gen

// Package remoting carries RocketMQ command frames over TCP: it accepts and dials connections, splits the
// stream into frames, matches answers to requests by opaque, admits requests per class and writes answers.
// What a command means is decided by the handlers of a Mux; the bytes of a frame by remoting/protocol.
package remoting

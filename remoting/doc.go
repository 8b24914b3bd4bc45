// Package remoting carries RocketMQ command frames over TCP: it accepts and dials connections, splits the
// stream into frames, matches answers to requests by opaque, admits requests per class and writes answers.
// What a command means is decided by the handlers of a Mux; the bytes of a frame by remoting/protocol.
//
// # Goroutines
//
// Every connection has one goroutine, its read loop: it reads, decodes, runs Inline handlers and the callbacks
// of CallAsync, and at the end tears the connection down. Whoever queues a frame on an idle connection writes it
// at once without blocking; what the socket does not take goes to a writer goroutine, which lives only while
// there is something to write. Spawn handlers have a goroutine each, bounded by their Class. A Server has one
// accept goroutine per address and, as a Client has, one watch goroutine that enforces all timeouts by looking
// at every connection in turn, so that no request touches a timer. Close of a Server or Client waits for all.
//
// # Locks
//
// host.mu (set of connections), Client.mu (peers), calls.mu (requests that wait for an answer), outbox.mu
// (frames to be written), Conn.mu (values, close hooks). None is held while another is taken, nor while a
// handler, a callback or a release function runs.
//
// # Limits
//
// Requests in flight are bounded per Class (refused with SYSTEM_BUSY) and per connection (reading stops);
// frames by protocol.MaxFrame; memory for received frames and for unwritten answers per server; a peer
// that does not read is cut off at OutboundBytesMax or WriteTimeout. Memory for a frame grows with the bytes
// that came, never with the length it declares; a connection without traffic holds no buffer.
package remoting

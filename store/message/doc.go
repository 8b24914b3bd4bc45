// Package message owns the stored record: one message in RocketMQ's stored form, exactly as it lies in the log and
// as it is sent to a puller. It is encoded once (Message.AppendTo), stamped in place (View.SetQueueOffset and its
// siblings) and read lazily (View). It also owns what lives inside that form: properties, system flags, tag hashes
// and message ids.
//
// Layout of a stored message, big endian, fields contiguous:
//
//	 0  4      size of the whole message
//	 4  4      magic: MagicV1, or MagicV2 where the topic is longer than 127 bytes
//	 8  4      CRC-32 (IEEE) of the body, top bit cleared
//	12  4      queue id
//	16  4      flag (the application's)
//	20  8      queue offset
//	28  8      physical offset: byte position of this message in the log
//	36  4      system flag
//	40  8      born timestamp, ms
//	48  8|20   born host: address (16 bytes if SysFlagBornHostV6), port int32
//	 .  8      store timestamp, ms
//	 .  8|20   store host: address (16 bytes if SysFlagStoreHostV6), port int32
//	 .  4      reconsume times
//	 .  8      prepared transaction offset
//	 .  4+n    body
//	 .  1+n    topic (2+n for MagicV2)
//	 .  2+n    properties
//
// The package is pure: no I/O, no clock, no state. Everything is safe for concurrent use as long as nobody stamps a
// View that others read.
package message

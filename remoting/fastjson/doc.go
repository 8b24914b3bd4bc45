// Package fastjson reads and writes the JSON dialect of Alibaba's fastjson 1.2, in which RocketMQ's headers and bodies
// are written. The dialect leaves standard JSON in three places, and rmq has to follow it in both directions:
//
//   - a map with integer keys may have them unquoted: {0:"10.0.0.1:10911"};
//   - a map with object keys has the objects themselves as keys: {{"brokerName":"b","queueId":0,"topic":"T"}:7};
//   - an object that occurs twice may be written as a reference to its first place: {"$ref":"$.table.a"}.
//
// Reading ([Unmarshal]) accepts all three and their standard spellings; writing ([Marshal], [MarshalLegacy]) gives what
// fastjson gives, byte for byte: members in alphabetical order, nothing between tokens, the same characters escaped,
// doubles as Java prints them. FORMAT.md of package protocol has the whole list.
//
// The package is pure and keeps no state; every function may be called from any goroutine.
package fastjson

// Package fastjson reads and writes the JSON dialect of Alibaba's fastjson, in which RocketMQ's bodies are written.
package fastjson

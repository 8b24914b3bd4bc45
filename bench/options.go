package bench

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Produce modes.
const (
	modeSync   = "sync"   // one message per request, answered
	modeOneway = "oneway" // one message per request, never answered: the rate is what the sockets took
	modeBatch  = "batch"  // several messages per request, answered
	modePull   = "pull"   // the mode of a consume run
)

// Kinds of a Result.
const (
	kindProduce = "produce"
	kindConsume = "consume"
)

// Where a consume run starts in each queue.
const (
	fromFirst = "first" // the oldest message there is
	fromLast  = "last"  // what arrives from now on
)

// Outputs.
const (
	outputText = "text"
	outputJSON = "json"
)

const (
	bodySizeMax    = 4 << 20
	connectionsMax = 60_000
	concurrencyMax = 1 << 16
	queuesMax      = 1024
	batchMax       = 10_000
)

// common holds the settings that produce and consume share.
type common struct {
	nameServers string
	topic       string
	group       string
	queues      int // of the topic, when it has to be created
	duration    time.Duration
	warmup      time.Duration
	connections int
	concurrency int
	timeout     time.Duration // of a request, as the stock clients have it
	output      string
	quiet       bool
}

func (c *common) register(f *pflag.FlagSet) {
	f.StringVarP(&c.nameServers, "namesrv", "n", "127.0.0.1:9876", "name server `address`, several separated by ;")
	f.StringVarP(&c.topic, "topic", "t", "", "`topic` to use, created when the name server does not know it")
	f.IntVar(&c.queues, "queues", 8, "queues per broker that the topic is created with")
	f.DurationVar(&c.duration, "duration", 30*time.Second, "how long to measure")
	f.StringVarP(&c.output, "output", "o", outputText, "result as text or json")
	f.BoolVarP(&c.quiet, "quiet", "q", false, "no progress line on stderr")
}

func (c *common) validate() error {
	switch {
	case len(c.addresses()) == 0:
		return errors.New("--namesrv is empty")
	case c.topic == "":
		return errors.New("--topic is required")
	case c.group == "":
		return errors.New("--group is empty")
	case c.queues < 1 || c.queues > queuesMax:
		return fmt.Errorf("--queues %d: want 1 to %d", c.queues, queuesMax)
	case c.duration <= 0:
		return fmt.Errorf("--duration %v: want more than 0", c.duration)
	case c.warmup < 0:
		return fmt.Errorf("--warmup %v: want 0 or more", c.warmup)
	case c.connections < 1 || c.connections > connectionsMax:
		return fmt.Errorf("--connections %d: want 1 to %d", c.connections, connectionsMax)
	case c.timeout <= 0:
		return fmt.Errorf("--timeout %v: want more than 0", c.timeout)
	case c.output != outputText && c.output != outputJSON:
		return fmt.Errorf("--output %q: want %s or %s", c.output, outputText, outputJSON)
	}
	return nil
}

// addresses splits the name-server list.
func (c *common) addresses() []string {
	return strings.FieldsFunc(c.nameServers, func(r rune) bool { return r == ';' || r == ',' || r == ' ' })
}

// write writes a result as asked for.
func (c *common) write(w io.Writer, r *Result) error {
	if c.output == outputJSON {
		return r.WriteJSON(w)
	}
	return r.WriteText(w)
}

// produceOptions are the settings of a produce run.
type produceOptions struct {
	common
	mode  string
	size  int
	batch int
	rate  float64
	tag   string
}

func (o *produceOptions) register(f *pflag.FlagSet) {
	o.common.register(f)
	f.StringVarP(&o.group, "group", "g", "rmq-bench-producer", "producer `group`")
	f.DurationVar(&o.warmup, "warmup", 10*time.Second, "load before measuring")
	f.IntVar(&o.connections, "connections", 16, "connections to each broker")
	f.IntVar(&o.concurrency, "concurrency", 64, "requests in flight per connection")
	f.DurationVar(&o.timeout, "timeout", 3*time.Second, "how long to wait for an answer")
	f.IntVar(&o.size, "size", 1024, "`bytes` of a message body")
	f.StringVar(&o.mode, "mode", modeSync, "sync, oneway or batch")
	f.IntVar(&o.batch, "batch", 32, "messages per request with --mode batch")
	f.Float64Var(&o.rate, "rate", 0, "messages per second over all connections, latency counted from the scheduled time; 0 sends as fast as answers come")
	f.StringVar(&o.tag, "tag", "", "`tag` of the messages")
}

func (o *produceOptions) validate() error {
	switch {
	case o.concurrency < 1 || o.concurrency > concurrencyMax:
		return fmt.Errorf("--concurrency %d: want 1 to %d", o.concurrency, concurrencyMax)
	case o.size < 1 || o.size > bodySizeMax:
		return fmt.Errorf("--size %d: want 1 to %d", o.size, bodySizeMax)
	case o.mode != modeSync && o.mode != modeOneway && o.mode != modeBatch:
		return fmt.Errorf("--mode %q: want %s, %s or %s", o.mode, modeSync, modeOneway, modeBatch)
	case o.batch < 1 || o.batch > batchMax:
		return fmt.Errorf("--batch %d: want 1 to %d", o.batch, batchMax)
	case o.mode == modeBatch && o.batch*o.size > bodySizeMax:
		return fmt.Errorf("--batch %d of --size %d: more than %d bytes in a request", o.batch, o.size, bodySizeMax)
	case o.rate < 0:
		return fmt.Errorf("--rate %g: want 0 or more", o.rate)
	case strings.ContainsAny(o.tag, "\x01\x02"):
		return fmt.Errorf("--tag %q: not allowed in a tag", o.tag)
	}
	return o.common.validate()
}

func (o *produceOptions) workload() Workload {
	w := o.common.workload()
	w.Mode, w.Size, w.Rate, w.Tag = o.mode, o.size, o.rate, o.tag
	if o.mode == modeBatch {
		w.Batch = o.batch
	}
	return w
}

// consumeOptions are the settings of a consume run.
type consumeOptions struct {
	common
	from  string
	batch int
	count int64
	tag   string
}

func (o *consumeOptions) register(f *pflag.FlagSet) {
	o.common.register(f)
	f.StringVarP(&o.group, "group", "g", "rmq-bench-consumer", "consumer `group`")
	f.DurationVar(&o.warmup, "warmup", 0, "consume this long before measuring")
	f.IntVar(&o.connections, "connections", 1, "connections to each broker, each a consumer of its own with its share of the queues")
	f.IntVar(&o.concurrency, "concurrency", 0, "pulls in flight per connection; 0 is one for each of its queues, as the stock push consumer has it")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "how long to wait for an answer, long polls included")
	f.Int("size", 0, "accepted so that one set of flags fits produce and consume; has no effect here")
	f.StringVar(&o.from, "from", fromFirst, "first (oldest message) or last (what arrives from now on)")
	f.IntVar(&o.batch, "batch", 32, "most messages per pull")
	f.Int64Var(&o.count, "count", 0, "stop after so many messages; 0 goes on until the end of --duration")
	f.StringVar(&o.tag, "tag", "*", "subscription: `tags` such as \"a || b\", or * for all")
}

func (o *consumeOptions) validate() error {
	switch {
	case o.concurrency < 0 || o.concurrency > concurrencyMax:
		return fmt.Errorf("--concurrency %d: want 0 to %d", o.concurrency, concurrencyMax)
	case o.from != fromFirst && o.from != fromLast:
		return fmt.Errorf("--from %q: want %s or %s", o.from, fromFirst, fromLast)
	case o.batch < 1 || o.batch > batchMax:
		return fmt.Errorf("--batch %d: want 1 to %d", o.batch, batchMax)
	case o.count < 0:
		return fmt.Errorf("--count %d: want 0 or more", o.count)
	}
	return o.common.validate()
}

func (o *consumeOptions) workload() Workload {
	w := o.common.workload()
	w.Mode, w.Batch, w.From, w.Tag = modePull, o.batch, o.from, o.tag
	return w
}

func (c *common) workload() Workload {
	return Workload{
		Connections: c.connections, Concurrency: c.concurrency,
		WarmupS: c.warmup.Seconds(), DurationS: c.duration.Seconds(),
	}
}

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"

	"rmq/compat/admin"
	"rmq/remoting"
	"rmq/remoting/protocol"
	"rmq/store/message"
)

// clientTimeout bounds one request of send and tail, as in stock clients.
const clientTimeout = 3 * time.Second

const (
	// sendWindow is how many messages rmq send has in flight when it reads them from its input.
	sendWindow = 256
	// sendLinesMax is how many acknowledgements are printed one by one; of more, only their number is.
	sendLinesMax = 20
	// bodyBytesMax is the longest line that rmq send takes: RocketMQ's largest message.
	bodyBytesMax = 4 << 20
)

// nameServerFlag adds -n, which falls back to NAMESRV_ADDR and then to this machine.
func nameServerFlag(f *pflag.FlagSet, env environment) *string {
	n := f.StringP("namesrvAddr", "n", env.getenv("NAMESRV_ADDR"), "name servers, host:port;host:port (also: NAMESRV_ADDR)")
	return n
}

func nameServers(list string, env environment) ([]string, error) {
	if list == "" {
		list = "127.0.0.1:9876"
		fmt.Fprintf(env.stderr, "no -n and no NAMESRV_ADDR: trying %s\n", list)
	}
	return parseNamesrvList(list)
}

// parseFlags parses a tool's command line; asked is true when only help was wanted, which it has printed.
func parseFlags(f *pflag.FlagSet, env environment, usage string, args []string) (asked bool, err error) {
	f.SetOutput(env.stderr)
	f.SortFlags = false
	f.Usage = func() { fmt.Fprintf(env.stdout, "usage: %s\n\n%s", usage, f.FlagUsages()) }
	switch err := f.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return true, nil
	case err != nil:
		return false, &exitError{exitUsage, err}
	}
	return false, nil
}

// runSend is `rmq send`.
func runSend(ctx context.Context, env environment, args []string) error {
	f := pflag.NewFlagSet("send", pflag.ContinueOnError)
	n := nameServerFlag(f, env)
	topic := f.StringP("topic", "t", "", "topic (required; created where the broker allows it)")
	tag := f.String("tag", "", "the messages' tag")
	key := f.String("key", "", "the messages' key, to find them by")
	group := f.StringP("group", "g", "RMQ_SEND", "producer group")
	if asked, err := parseFlags(f, env, "rmq send -n ADDR -t TOPIC [--tag T] [--key K] [BODY]\nWithout BODY every line of the input is a message.", args); asked || err != nil {
		return err
	}
	if *topic == "" || f.NArg() > 1 {
		return &exitError{exitUsage, errors.New("give a topic with -t, and at most one BODY (quote it)")}
	}
	servers, err := nameServers(*n, env)
	if err != nil {
		return err
	}
	cluster := admin.NewCluster(servers, clientTimeout)
	defer cluster.Close()
	s := &sender{cluster: cluster, topic: *topic, group: *group, window: make(chan struct{}, sendWindow), out: env.stdout, errors: env.stderr}
	for _, p := range [][2]string{{message.PropertyTags, *tag}, {message.PropertyKeys, *key}} {
		if p[1] == "" {
			continue
		}
		if err := message.CheckProperty(p[0], p[1]); err != nil {
			return &exitError{exitUsage, err}
		}
		s.properties = message.AppendProperty(s.properties, p[0], p[1])
	}
	if err := s.findQueues(ctx); err != nil {
		return err
	}
	if f.NArg() == 1 {
		s.send([]byte(f.Arg(0)))
	} else {
		err = s.sendLines(ctx, env.stdin)
	}
	return cmp.Or(err, s.finish()) // what was sent is told of in any case
}

// sender sends messages to the queues of one topic in turn, several in flight.
type sender struct {
	cluster     *admin.Cluster
	topic       string
	group       string
	properties  []byte
	queues      []admin.Queue
	out, errors io.Writer

	next   int
	window chan struct{} // holds a token for each message in flight
	sent   atomic.Int64
	failed atomic.Int64
	mu     sync.Mutex // of out and errors
}

// findQueues asks for the topic's queues, again while their groups have no leader: an election takes less than leaderWait.
func (s *sender) findQueues(ctx context.Context) error {
	for deadline := time.Now().Add(leaderWait); ; {
		if err := s.askQueues(ctx); err != nil || len(s.queues) > 0 {
			return err
		}
		if time.Now().After(deadline) || !sleep(ctx, leaderPoll) {
			return fmt.Errorf("topic %s has no writable queue on a live master", s.topic)
		}
	}
}

const (
	// leaderWait is how long send and tail wait for a group to have a leader again, and leaderPoll how often they ask.
	leaderWait = 5 * time.Second
	leaderPoll = 50 * time.Millisecond
)

// askQueues asks once; an unknown topic takes the queues of the template that it will be made from.
func (s *sender) askQueues(ctx context.Context) error {
	route, err := s.cluster.Route(ctx, s.topic)
	var reply *admin.ReplyError
	if errors.As(err, &reply) && reply.Code == protocol.TopicNotExist {
		if route, err = s.cluster.Route(ctx, admin.AutoCreateTopic); err != nil {
			return fmt.Errorf("topic %s does not exist, and no broker creates topics by itself (autoCreateTopicEnable): %w", s.topic, err)
		}
		for i := range route.QueueDatas {
			route.QueueDatas[i].WriteQueueNums = min(route.QueueDatas[i].WriteQueueNums, newTopicQueues)
		}
	}
	if err != nil {
		return fmt.Errorf("finding topic %s: %w", s.topic, err)
	}
	s.queues = admin.RouteQueues(route, admin.PermWrite)
	return nil
}

// newTopicQueues is how many queues a topic gets that its first message creates, as stock clients ask for.
const newTopicQueues = 4

// send sends one message, waiting only for room in the window; its outcome is printed and counted.
func (s *sender) send(body []byte) {
	s.window <- struct{}{}
	q := s.queues[s.next%len(s.queues)]
	s.next++
	cmd := protocol.NewRequest(protocol.SendMessageV2, &protocol.SendMessageRequestHeaderV2{
		ProducerGroup: s.group, Topic: s.topic, DefaultTopic: admin.AutoCreateTopic, DefaultTopicQueueNums: newTopicQueues, QueueID: q.ID,
		BornTimestamp: time.Now().UnixMilli(), Properties: string(s.properties),
	})
	cmd.Body = body
	s.attempt(q, cmd, time.Now().Add(leaderWait))
}

// attempt sends a message to where its queue is; again, until then, if the broker there has gone and another replica of its
// group may have taken over.
func (s *sender) attempt(q admin.Queue, cmd *protocol.Command, until time.Time) {
	s.cluster.Client().CallAsync(q.Address, cmd, time.Now().Add(clientTimeout), func(resp *protocol.Command, err error) {
		if errors.Is(err, remoting.ErrNotSent) && time.Now().Before(until) {
			time.AfterFunc(leaderPoll, func() { s.attempt(s.moved(q), cmd, until) }) // finish waits for it: the window has its token
			return
		}
		s.acknowledged(q, resp, err)
		<-s.window
	})
}

// moved returns where a queue is now, as far as the name servers know.
func (s *sender) moved(q admin.Queue) admin.Queue {
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	masters, err := s.cluster.Masters(ctx)
	if err == nil && masters[q.Broker] != "" {
		q.Address = masters[q.Broker]
	}
	return q
}

func (s *sender) acknowledged(q admin.Queue, resp *protocol.Command, err error) {
	var h protocol.SendMessageResponseHeader
	status := ""
	if err == nil {
		if status = storedStatus(resp.Code); status == "" {
			err = &admin.ReplyError{Code: resp.Code, Remark: resp.Remark}
		} else {
			err = h.Decode(resp.Ext)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if s.failed.Add(1) <= sendLinesMax {
			fmt.Fprintf(s.errors, "FAILED  topic %s  broker %s  queue %d: %v\n", s.topic, q.Broker, q.ID, err)
		}
		return
	}
	if s.sent.Add(1) <= sendLinesMax {
		fmt.Fprintf(s.out, "%s  topic %s  broker %s  queue %d  offset %d  msgId %s  offsetMsgId %s\n", status, s.topic, q.Broker, h.QueueID, h.QueueOffset, h.TransactionID, h.MsgID)
	}
}

// storedStatus is the word for an answer that says that the message is stored, as stock clients have it; "" for any other.
// All but the first say that fewer replicas have it than were asked for.
func storedStatus(code int32) string {
	switch code {
	case protocol.Success:
		return "SEND_OK"
	case protocol.FlushDiskTimeout:
		return "FLUSH_DISK_TIMEOUT"
	case protocol.FlushSlaveTimeout:
		return "FLUSH_SLAVE_TIMEOUT"
	case protocol.SlaveNotAvailable:
		return "SLAVE_NOT_AVAILABLE"
	}
	return ""
}

// errInterrupted is the end of `rmq send` by a signal before its input was at its end.
var errInterrupted = errors.New("interrupted before the end of the input")

// sendLines sends every line of the input that is not empty. A read cannot be interrupted: when ctx ends, the goroutine
// that waits for a line is left to the end of the process.
func (s *sender) sendLines(ctx context.Context, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), bodyBytesMax+1)
	read := make(chan []byte, sendWindow)
	go func() {
		defer close(read)
		for lines.Scan() {
			if len(lines.Bytes()) == 0 {
				continue
			}
			select {
			case read <- bytes.Clone(lines.Bytes()):
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return errInterrupted
		case line, ok := <-read:
			switch {
			case ok:
				s.send(line)
			case ctx.Err() != nil:
				return errInterrupted
			case lines.Err() != nil:
				return fmt.Errorf("reading the input: %w (a message is one line of at most %d bytes)", lines.Err(), bodyBytesMax)
			default:
				return nil
			}
		}
	}
}

func (s *sender) finish() error {
	for range cap(s.window) { // every slot back: nothing is in flight
		s.window <- struct{}{}
	}
	sent, failed := s.sent.Load(), s.failed.Load()
	if sent+failed > sendLinesMax {
		fmt.Fprintf(s.out, "%d messages acknowledged, %d failed\n", sent, failed)
	}
	if failed > 0 {
		return quiet(exitUsage)
	}
	return nil
}

package raftlog

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Requests of one pipeline that are not answered. More gain nothing and hold memory.
const (
	pipelineSlots    = 32
	pipelineBytesMax = 32 << 20
)

// appendPipeline sends AppendEntries to one replica without waiting for the answers. One goroutine of Raft's sends, another takes
// the answers. When the connection fails the next AppendEntries says so, and the answers that are missing do not come to Consumer:
// Raft would count them as contact.
type appendPipeline struct {
	t      *peerTransport
	key    peerKey
	c      *peerConn
	queue  chan *appendFuture // in the order of sending
	ready  chan raft.AppendFuture
	bytes  atomic.Int64  // of what is not answered
	room   chan struct{} // bytes has gone down
	dead   chan struct{}
	once   sync.Once
	err    error         // set before dead is closed
	exited chan struct{} // the reader has
}

// appendFuture is one request of a pipeline.
type appendFuture struct {
	p     *appendPipeline
	start time.Time
	args  *raft.AppendEntriesRequest
	resp  *raft.AppendEntriesResponse
	size  int64
	done  chan struct{} // answered
}

func (f *appendFuture) Start() time.Time                      { return f.start }
func (f *appendFuture) Request() *raft.AppendEntriesRequest   { return f.args }
func (f *appendFuture) Response() *raft.AppendEntriesResponse { return f.resp }

// Error waits for the answer.
func (f *appendFuture) Error() error {
	select {
	case <-f.done:
		return nil
	case <-f.p.dead:
	}
	select {
	case <-f.done:
		return nil
	default:
		return f.p.err
	}
}

// AppendEntriesPipeline opens a pipeline on a connection of its own.
func (t *peerTransport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	key := peerKey{id, target}
	c, _, err := t.lease(key)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		t.drop(key, c)
		return nil, err
	}
	p := &appendPipeline{
		t: t, key: key, c: c,
		queue: make(chan *appendFuture, pipelineSlots), ready: make(chan raft.AppendFuture, pipelineSlots),
		room: make(chan struct{}, 1), dead: make(chan struct{}), exited: make(chan struct{}),
	}
	if !t.tasks.spawn(p.read) {
		t.drop(key, c)
		return nil, errTransportClosed
	}
	return p, nil
}

// AppendEntries sends a request; it waits while too many are not answered. It shortens args.Entries as peerTransport's does.
func (p *appendPipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	shorten(args)
	f := &appendFuture{p: p, start: time.Now(), args: args, resp: resp, done: make(chan struct{})}
	for _, e := range args.Entries {
		f.size += int64(len(e.Data) + len(e.Extensions))
	}
	for n := p.bytes.Load(); n > 0 && n+f.size > pipelineBytesMax; n = p.bytes.Load() {
		select {
		case <-p.room:
		case <-p.dead:
			return nil, p.err
		}
	}
	p.t.leads(args)
	p.bytes.Add(f.size)
	select {
	case <-p.dead:
		return nil, p.err
	default:
	}
	select {
	case p.queue <- f:
	case <-p.dead:
		return nil, p.err
	}
	err := p.c.SetWriteDeadline(time.Now().Add(p.t.n.o.AppendTimeout))
	if err == nil {
		err = p.t.send(p.c, args)
	}
	if err != nil {
		p.fail(err)
		return nil, err
	}
	return f, nil
}

// read takes the answers as they come.
func (p *appendPipeline) read() {
	defer close(p.exited)
	for {
		var f *appendFuture
		select {
		case f = <-p.queue:
		case <-p.dead:
			return
		case <-p.t.ctx.Done():
			p.fail(errTransportClosed)
			return
		}
		err := p.c.SetReadDeadline(time.Now().Add(p.t.n.o.AppendTimeout))
		if err == nil {
			err = p.c.readResponse(rpcAppendEntries)
		}
		if err == nil {
			err = p.c.resp.fill(f.resp)
		}
		if err != nil {
			p.fail(err)
			return
		}
		p.bytes.Add(-f.size)
		notify(p.room)
		p.t.n.progress.answered(p.key.id, p.key.addr, f.args, f.resp)
		close(f.done)
		select {
		case p.ready <- f:
		case <-p.dead:
			return
		case <-p.t.ctx.Done():
			p.fail(errTransportClosed)
			return
		}
	}
}

// fail ends the pipeline.
func (p *appendPipeline) fail(err error) {
	p.once.Do(func() {
		p.err = err
		close(p.dead)
		p.t.drop(p.key, p.c)
	})
}

func (p *appendPipeline) Consumer() <-chan raft.AppendFuture { return p.ready }

// Close ends the pipeline and its goroutine. What is not answered stays unknown.
func (p *appendPipeline) Close() error {
	p.fail(raft.ErrPipelineShutdown)
	<-p.exited
	return nil
}

package compat

import (
	"sync/atomic"

	"rmq/remoting"
	"rmq/remoting/protocol"
)

// departure has clients leave a replica that stops, as far as they know how.
type departure struct {
	newest atomic.Uint64 // id of the newest connection that has sent a request before
	begun  atomic.Bool
}

// GoAway makes clients connect anew: from now on each request on a connection of before gets GO_AWAY, on which a client
// newer than 5.3.1 connects to the same address again and repeats the request there. Behind an address that several
// replicas share, a proxy of connections takes it to another one; elsewhere it comes back and is served, once the lead is
// handed over by passing it on. A second GO_AWAY to one request would be an error, so new connections get none.
func (p *Processors) GoAway() { p.leaving.begun.Store(true) }

// sentAway answers a request with GO_AWAY, if its client understands that. Only those that have sent a heartbeat are taken
// for RocketMQ's clients: everything else that speaks the protocol copies their language and version.
func (p *Processors) sentAway(r *remoting.Request) bool {
	d, id := &p.leaving, r.Conn.ID()
	newest := d.newest.Load()
	if !d.begun.Load() {
		for id > newest && !d.newest.CompareAndSwap(newest, id) {
			newest = d.newest.Load()
		}
		return false
	}
	if id > newest || r.Cmd.IsOneway() || r.Cmd.Version <= protocol.V5_3_1 || r.Cmd.Language != protocol.LanguageJava || r.Conn.Value(connectionKey{}) == nil {
		return false
	}
	r.Reply(&protocol.Command{Code: protocol.GoAway, Remark: "please go away"})
	return true
}

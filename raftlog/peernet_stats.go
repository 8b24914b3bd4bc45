package raftlog

import "sync/atomic"

// PeerStats counts since ListenPeers, but for what ends in Now.
type PeerStats struct {
	ConnsNow, CallsNow                  int // accepted and calls' connections; Handlers at work
	ConnsAccepted, ConnsDialed          uint64
	HandshakesRefused                   uint64 // callers that belong elsewhere
	HandshakesBad                       uint64 // callers that speak something else
	FramesBad                           uint64 // streams closed for what came over them
	AppendsSent, EntriesSent, BytesSent uint64 // AppendEntries but heartbeats, what was in them
	HeartbeatsSent                      uint64
	AppendsReceived                     uint64 // heartbeats included
	CallsSent                           uint64
	CallsReceived, CallsRefused         uint64 // refused for CallsMax, bytes, or want of a Handler
	VotesMuted                          uint64 // requests refused or not sent because of SetMuted
	LeaderProbes                        uint64 // how often a lost leader was looked for
}

type peerCounters struct {
	accepted, dialed, refusedHellos, badHellos, badFrames atomic.Uint64
	appends, entries, bytes, heartbeats, appendsIn        atomic.Uint64
	callsOut, callsIn, callsRefused, votesMuted, probes   atomic.Uint64
}

// Stats returns the counters.
func (n *PeerNet) Stats() PeerStats {
	c := &n.stats
	return PeerStats{
		ConnsNow: n.conns.size() + n.out.size(), CallsNow: n.handling.running(),
		ConnsAccepted: c.accepted.Load(), ConnsDialed: c.dialed.Load(),
		HandshakesRefused: c.refusedHellos.Load(), HandshakesBad: c.badHellos.Load(), FramesBad: c.badFrames.Load(),
		AppendsSent: c.appends.Load(), EntriesSent: c.entries.Load(), BytesSent: c.bytes.Load(),
		HeartbeatsSent: c.heartbeats.Load(), AppendsReceived: c.appendsIn.Load(),
		CallsSent: c.callsOut.Load(), CallsReceived: c.callsIn.Load(), CallsRefused: c.callsRefused.Load(),
		VotesMuted: c.votesMuted.Load(), LeaderProbes: c.probes.Load(),
	}
}

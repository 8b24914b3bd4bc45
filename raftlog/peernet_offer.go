package raftlog

import (
	"errors"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// offer is what Raft gets to read of a snapshot that it wants to send. It never is read: it tells the transport which log it comes from,
// and takes back from where on the other replica is to be sent entries.
type offer struct {
	io.Reader
	l    *Log
	meta *raft.SnapshotMeta // Raft goes on behind Index after a success
}

func (o *offer) Close() error { return nil }

// stepsMax bounds how far back an offer looks for an entry in common.
const stepsMax = 256

// InstallSnapshot finds out what the other replica has. Raft wants to send a snapshot when it lacks the entries that it believes the
// other one needs, and it believes so long after that one has been filled. If the other replica holds an entry from which on this
// one can continue, that is what Raft is told; if not, the other one is told that it must be filled, and the request fails.
func (t *peerTransport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, r io.Reader) error {
	o, ours := r.(*offer)
	if ours {
		index, term, err := t.inCommon(id, target, args, o.l)
		switch {
		case err != nil:
			return t.failed(id, err)
		case term > args.Term:
			resp.Term = term
			return nil
		case index > 0:
			resp.Term, resp.Success = args.Term, true
			o.meta.Index = index
			return nil
		}
	}
	if err := t.call(id, target, args, resp, t.n.o.ControlTimeout); err != nil {
		var remote *remoteError
		if ours && errors.As(err, &remote) {
			t.pause(offerPause)
		}
		return t.failed(id, err)
	}
	return errSnapshotOffered
}

// offerPause is how long Raft is held up after an offer: it counts the failures, and would wait the longer for the replica once that
// is filled.
const offerPause = time.Second

func (t *peerTransport) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.ctx.Done():
	}
}

// inCommon returns an entry that the other replica's Raft says it holds just as l does, 0 if there is none; or the other one's term if
// that is later.
func (t *peerTransport) inCommon(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, l *Log) (index, term uint64, err error) {
	store := logStore{l}
	_, last := l.index.span()
	for at, steps := args.LastLogIndex, 0; at > 0 && steps < stepsMax; steps++ {
		var e raft.Log
		if err := store.GetLog(at, &e); errors.Is(err, raft.ErrLogNotFound) {
			return 0, 0, nil
		} else if err != nil {
			return 0, 0, err
		}
		ask := &raft.AppendEntriesRequest{RPCHeader: args.RPCHeader, Term: args.Term, PrevLogEntry: at, PrevLogTerm: e.Term}
		var resp raft.AppendEntriesResponse
		if err := t.call(id, target, ask, &resp, t.n.o.AppendTimeout); err != nil {
			return 0, 0, err
		}
		t.n.progress.answered(id, target, ask, &resp)
		switch {
		case resp.Term > args.Term:
			return 0, resp.Term, nil
		case resp.Success:
			return at, 0, nil
		case steps == 0:
			at = min(resp.LastLog, last) // it may have more than the snapshot, or less
		default:
			at--
		}
	}
	return 0, 0, nil
}

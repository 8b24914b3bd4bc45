package raftlog

import (
	"context"
	"fmt"

	"github.com/hashicorp/raft"
)

// runLeadership follows Raft's changes of leadership: it opens and closes the queue, answers what a lost leadership leaves open
// and tells the user. It is also the one to stop Raft after a storage failure.
func (l *Log) runLeadership(changes <-chan bool) {
	poison := l.poisonCh
	for {
		select {
		case <-l.stop:
			return
		case <-poison:
			poison = nil
			l.queue.setLeading(false)
			l.queue.fail(ErrUncertain, ErrClosed)
			l.halt()
			l.announce(false)
		case leading := <-changes:
			if leading && l.poisoned() == nil {
				l.queue.setLeading(true)
			} else {
				l.queue.setLeading(false)
				l.queue.fail(ErrUncertain, ErrNotLeader)
			}
			l.announce(leading)
		case <-l.appendedWanted:
			l.queue.answerAppended()
		}
	}
}

// announce delivers the newest value on the channel of Leadership, in place of one that nobody took.
func (l *Log) announce(leading bool) {
	for {
		select {
		case l.leadership <- leading:
			return
		default:
		}
		select {
		case <-l.leadership:
		default:
		}
	}
}

func voters(c raft.Configuration) int {
	n := 0
	for _, s := range c.Servers {
		if s.Suffrage == raft.Voter {
			n++
		}
	}
	return n
}

// TransferLeadership hands leadership to the voter that is best up to date. Proposals in flight are answered first; Appends that
// arrive meanwhile wait, and get ErrNotLeader once leadership is gone.
func (l *Log) TransferLeadership(ctx context.Context) error {
	return l.transfer(ctx, (*raft.Raft).LeadershipTransfer)
}

// TransferLeadershipTo is TransferLeadership to the voter id at addr. If that one does not take over within the election timeout,
// this replica goes on leading.
func (l *Log) TransferLeadershipTo(ctx context.Context, id, addr string) error {
	return l.transfer(ctx, func(r *raft.Raft) raft.Future {
		return r.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(addr))
	})
}

func (l *Log) transfer(ctx context.Context, begin func(r *raft.Raft) raft.Future) error {
	r := l.raft.Load()
	if r == nil {
		return ErrClosed
	}
	if err := l.queue.pause(ctx); err != nil {
		l.queue.resume()
		return err
	}
	defer l.queue.resume()
	answered := make(chan error, 1)
	f := begin(r)
	go func() { answered <- f.Error() }() // ends with the transfer; a Raft that is shut down may forget the future, and the process goes with it
	select {
	case err := <-answered:
		if err != nil {
			return fmt.Errorf("raftlog: transfer leadership: %w", err)
		}
		// Nothing is in flight. What waits must not be proposed any more: it would be refused, and count as uncertain. So
		// proposing goes on only when the queue has been told that the lead is lost.
		return l.queue.awaitFollowing(ctx)
	case <-ctx.Done():
		return ctx.Err()
	case <-l.stop:
		return ErrClosed
	}
}

// Leadership delivers true when this replica has become leader and false when it no longer is. Only the newest value is kept.
func (l *Log) Leadership() <-chan bool { return l.leadership }

// IsLeader reports whether this replica leads, as far as it knows.
func (l *Log) IsLeader() bool {
	r := l.raft.Load()
	return r != nil && r.State() == raft.Leader
}

// Term returns Raft's current term, 0 before Start.
func (l *Log) Term() uint64 {
	if r := l.raft.Load(); r != nil {
		return r.CurrentTerm()
	}
	return 0
}

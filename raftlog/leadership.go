package raftlog

import "github.com/hashicorp/raft"

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
			l.queue.setLeading(false, false)
			l.queue.fail(ErrUncertain, ErrClosed)
			l.halt()
			l.announce(false)
		case leading := <-changes:
			if leading && l.poisoned() == nil {
				l.queue.setLeading(true, l.soleVoter())
			} else {
				l.queue.setLeading(false, false)
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

// soleVoter reports whether this replica alone decides what is committed.
func (l *Log) soleVoter() bool {
	f := l.raft.Load().GetConfiguration()
	if f.Error() != nil {
		return false
	}
	voters := 0
	for _, s := range f.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	return voters == 1
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

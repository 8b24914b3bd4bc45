package compat

import "time"

// Age makes it so long since anybody led.
func (p *Processors) Age(d time.Duration) {
	p.leader.mu.Lock()
	defer p.leader.mu.Unlock()
	p.leader.since = p.leader.since.Add(-d)
}

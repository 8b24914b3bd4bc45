package store

import (
	"maps"
	"slices"
	"sync"
)

// GroupConfig describes a consumer group; fields and meaning are those of Apache's SubscriptionGroupConfig. Slices and
// maps are shared with the store and must not be changed.
type GroupConfig struct {
	Name                           string
	ConsumeEnable                  bool
	ConsumeFromMinEnable           bool
	ConsumeBroadcastEnable         bool
	ConsumeMessageOrderly          bool
	RetryQueueNums                 int32
	RetryMaxTimes                  int32
	RetryPolicy                    RetryPolicy
	BrokerID                       int64
	WhichBrokerWhenConsumeSlowly   int64
	NotifyConsumerIDsChangedEnable bool
	GroupSysFlag                   int32
	ConsumeTimeoutMinute           int32
	Subscriptions                  []Subscription
	Attributes                     map[string]string
}

// RetryPolicy says how long a message waits before it is handed out again. Times are milliseconds.
type RetryPolicy struct {
	Type        string            // "CUSTOMIZED", "EXPONENTIAL"
	Exponential *ExponentialRetry // nil: not set
	Customized  []int64           // nil: the default steps
}

// ExponentialRetry is the parameter set of the policy "EXPONENTIAL".
type ExponentialRetry struct {
	Initial, Max, Multiplier int64
}

// Subscription is one of a group's fixed subscriptions.
type Subscription struct {
	Topic          string
	Expression     string
	ExpressionType string
	Version        int64
}

// Equal reports whether two configurations are the same.
func (g *GroupConfig) Equal(o *GroupConfig) bool {
	return g.Name == o.Name && g.ConsumeEnable == o.ConsumeEnable && g.ConsumeFromMinEnable == o.ConsumeFromMinEnable &&
		g.ConsumeBroadcastEnable == o.ConsumeBroadcastEnable && g.ConsumeMessageOrderly == o.ConsumeMessageOrderly &&
		g.RetryQueueNums == o.RetryQueueNums && g.RetryMaxTimes == o.RetryMaxTimes && g.RetryPolicy.equal(&o.RetryPolicy) &&
		g.BrokerID == o.BrokerID && g.WhichBrokerWhenConsumeSlowly == o.WhichBrokerWhenConsumeSlowly &&
		g.NotifyConsumerIDsChangedEnable == o.NotifyConsumerIDsChangedEnable && g.GroupSysFlag == o.GroupSysFlag &&
		g.ConsumeTimeoutMinute == o.ConsumeTimeoutMinute && slices.Equal(g.Subscriptions, o.Subscriptions) &&
		maps.Equal(g.Attributes, o.Attributes)
}

func (p *RetryPolicy) equal(o *RetryPolicy) bool {
	if p.Type != o.Type || !slices.Equal(p.Customized, o.Customized) || (p.Exponential == nil) != (o.Exponential == nil) {
		return false
	}
	return p.Exponential == nil || *p.Exponential == *o.Exponential
}

func (g *GroupConfig) encode(e *encoder) {
	e.array(17)
	e.str(g.Name)
	e.bool(g.ConsumeEnable)
	e.bool(g.ConsumeFromMinEnable)
	e.bool(g.ConsumeBroadcastEnable)
	e.bool(g.ConsumeMessageOrderly)
	e.int(int64(g.RetryQueueNums))
	e.int(int64(g.RetryMaxTimes))
	e.str(g.RetryPolicy.Type)
	if x := g.RetryPolicy.Exponential; x != nil {
		e.array(3)
		e.int(x.Initial)
		e.int(x.Max)
		e.int(x.Multiplier)
	} else {
		e.array(0)
	}
	e.array(len(g.RetryPolicy.Customized))
	for _, ms := range g.RetryPolicy.Customized {
		e.int(ms)
	}
	e.int(g.BrokerID)
	e.int(g.WhichBrokerWhenConsumeSlowly)
	e.bool(g.NotifyConsumerIDsChangedEnable)
	e.int(int64(g.GroupSysFlag))
	e.int(int64(g.ConsumeTimeoutMinute))
	e.array(4 * len(g.Subscriptions))
	for i := range g.Subscriptions {
		sub := &g.Subscriptions[i]
		e.str(sub.Topic)
		e.str(sub.Expression)
		e.str(sub.ExpressionType)
		e.int(sub.Version)
	}
	e.strings(g.Attributes)
}

func decodeGroup(d *decoder) GroupConfig {
	d.fields(17)
	g := GroupConfig{Name: d.str(), ConsumeEnable: d.bool(), ConsumeFromMinEnable: d.bool(), ConsumeBroadcastEnable: d.bool(),
		ConsumeMessageOrderly: d.bool(), RetryQueueNums: d.int32(), RetryMaxTimes: d.int32(), RetryPolicy: decodeRetryPolicy(d),
		BrokerID: d.int(), WhichBrokerWhenConsumeSlowly: d.int(), NotifyConsumerIDsChangedEnable: d.bool(),
		GroupSysFlag: d.int32(), ConsumeTimeoutMinute: d.int32()}
	if n := d.records(4); n > 0 {
		g.Subscriptions = make([]Subscription, n)
		for i := range g.Subscriptions {
			g.Subscriptions[i] = Subscription{Topic: d.str(), Expression: d.str(), ExpressionType: d.str(), Version: d.int()}
		}
	}
	g.Attributes = d.strings()
	return g
}

func decodeRetryPolicy(d *decoder) RetryPolicy {
	p := RetryPolicy{Type: d.str()}
	switch n := d.array(); n {
	case 0:
	case 3:
		p.Exponential = &ExponentialRetry{Initial: d.int(), Max: d.int(), Multiplier: d.int()}
	default:
		d.fields(3)
	}
	if n := d.array(); n > 0 {
		p.Customized = make([]int64, n)
		for i := range p.Customized {
			p.Customized[i] = d.int()
		}
	}
	return p
}

// groupTable is the consumer groups' configurations. Changed by Apply only.
type groupTable struct {
	mu      sync.RWMutex
	byName  map[string]GroupConfig
	version Version
}

func (t *groupTable) put(now int64, g GroupConfig, ifAbsent bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, ok := t.byName[g.Name]; ok && (ifAbsent || old.Equal(&g)) {
		return
	}
	t.byName[g.Name] = g
	t.version.bump(now)
}

func (t *groupTable) delete(now int64, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.byName[name]; ok {
		delete(t.byName, name)
		t.version.bump(now)
	}
}

func (t *groupTable) encode(e *encoder) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	t.version.encode(e)
	e.array(len(t.byName))
	for _, name := range sortedKeys(t.byName) {
		g := t.byName[name]
		g.encode(e)
	}
}

func (t *groupTable) decode(d *decoder) {
	t.version = decodeVersion(d)
	n := d.array()
	t.byName = make(map[string]GroupConfig, n)
	for range n {
		g := decodeGroup(d)
		t.byName[g.Name] = g
	}
}

// Group returns one group's configuration.
func (s *Store) Group(name string) (GroupConfig, bool) {
	s.groups.mu.RLock()
	defer s.groups.mu.RUnlock()
	g, ok := s.groups.byName[name]
	return g, ok
}

// Groups returns all groups by name.
func (s *Store) Groups() []GroupConfig {
	s.groups.mu.RLock()
	defer s.groups.mu.RUnlock()
	out := make([]GroupConfig, 0, len(s.groups.byName))
	for _, name := range sortedKeys(s.groups.byName) {
		out = append(out, s.groups.byName[name])
	}
	return out
}

// GroupCount returns how many groups there are.
func (s *Store) GroupCount() int {
	s.groups.mu.RLock()
	defer s.groups.mu.RUnlock()
	return len(s.groups.byName)
}

// GroupsVersion returns how often the groups have changed.
func (s *Store) GroupsVersion() Version {
	s.groups.mu.RLock()
	defer s.groups.mu.RUnlock()
	return s.groups.version
}

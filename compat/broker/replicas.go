package broker

// Replicas is what the acknowledgement of sends needs to know of the group's data replicas: those that hold messages, so
// not the arbiter, nor a replica that never counts (asyncLearner). The methods are called often and at the same time; they
// must be quick.
type Replicas interface {
	// Data is how many data replicas the group has, this one included.
	Data() int
	// Connected is how many of them are in contact now, this one included.
	Connected() int
	// InSync is how many of those are not too far behind, this one included.
	InSync() int
	// Held is the highest index of an entry that at least n data replicas hold, this one included; 0 if there are not n.
	Held(n int) uint64
	// OnHeld sets the one function that is called after Held or Connected may have changed. It does not block.
	OnHeld(func())
}

// alone is a group of one replica.
type alone struct{}

func (alone) Data() int       { return 1 }
func (alone) Connected() int  { return 1 }
func (alone) InSync() int     { return 1 }
func (alone) Held(int) uint64 { return 0 }
func (alone) OnHeld(func())   {}

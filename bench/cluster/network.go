package cluster

// Network gives servers their addresses and cuts them off from each other.
type Network interface {
	// join sets Host, Port, bind and namespace of a server.
	join(n *Node, free *ports) error
	// nameServerOf is the address at which n reaches the name server s.
	nameServerOf(n, s *Node) (string, error)
	// command goes before the command line of a server.
	command(n *Node) []string
	isolate(n *Node, others []*Node) error
	// deafen lets n send and not receive.
	deafen(n *Node, others []*Node) error
	heal(n *Node, others []*Node) error
	close() error
}

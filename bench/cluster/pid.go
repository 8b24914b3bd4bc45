package cluster

// PID is the process id of the server's present process; 0 if it does not run.
func (n *Node) PID() int {
	r := n.current()
	if r == nil || !r.alive() {
		return 0
	}
	return r.cmd.Process.Pid
}

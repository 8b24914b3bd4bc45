package cluster

import "syscall"

// lifeline makes the kernel kill a server when the process that started it dies: a test that is torn down must not leave
// servers behind.
func lifeline() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

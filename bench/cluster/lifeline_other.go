//go:build !linux

package cluster

import "syscall"

func lifeline() *syscall.SysProcAttr { return nil }

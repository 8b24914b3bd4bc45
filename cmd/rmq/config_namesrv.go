package main

import (
	"errors"
	"log/slog"
	"time"
)

// NamesrvConfig holds the keys of a name server's property file that this version acts on, typed and checked. It is
// filled by LoadNamesrvConfig and read-only afterwards.
type NamesrvConfig struct {
	BindAddress                          string
	ListenPort                           int // 0 = any free port
	KvConfigPath                         string
	ConfigStorePath                      string
	OrderMessageEnable                   bool
	ReturnOrderTopicConfigToBroker       bool
	EnableAllTopicList                   bool
	EnableTopicList                      bool
	NotifyMinBrokerIDChanged             bool
	DeleteTopicWithBrokerRegistration    bool
	NeedWaitForService                   bool
	WaitSecondsForService                time.Duration
	ScanNotActiveBrokerInterval          time.Duration
	ServerChannelMaxIdleTimeSeconds      time.Duration
	ClientRequestThreadPoolQueueCapacity int // admission limit of route requests
	DefaultThreadPoolQueueCapacity       int // admission limit of every other request
}

// LoadNamesrvConfig is LoadBrokerConfig for a name server's file.
func LoadNamesrvConfig(path string, env func(string) string, log *slog.Logger, strict bool) (*NamesrvConfig, error) {
	return nil, errors.New("property files are not read yet")
}

// Items is BrokerConfig.Items for a name server.
func (c *NamesrvConfig) Items() []ConfigItem { return nil }

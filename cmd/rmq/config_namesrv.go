package main

import (
	"errors"
	"log/slog"
	"path/filepath"
	"time"
)

// NamesrvConfig holds the keys of a name server's property file that this version acts on, typed and checked. Every field
// is named after its Java key. It is filled by LoadNamesrvConfig and read-only afterwards.
type NamesrvConfig struct {
	BindAddress  string
	ListenPort   int    // 0 = any free port
	KvConfigPath string // default: namesrv/kvConfig.json under the home directory

	OrderMessageEnable                bool // order configuration is returned with routes
	ReturnOrderTopicConfigToBroker    bool
	EnableAllTopicList                bool
	EnableTopicList                   bool
	NotifyMinBrokerIDChanged          bool
	SupportActingMaster               bool // a group without leader may show a read-only one
	DeleteTopicWithBrokerRegistration bool // a full registration drops the routes it does not name
	NeedWaitForService                bool // no route is answered before WaitSecondsForService
	WaitSecondsForService             time.Duration
	ScanNotActiveBrokerInterval       time.Duration

	//lint:ignore ST1011 named after its key
	ServerChannelMaxIdleTimeSeconds      time.Duration
	ClientRequestThreadPoolQueueCapacity int // admission limit of route requests
	DefaultThreadPoolQueueCapacity       int // admission limit of every other request

	keys *keySettings
}

func (c *NamesrvConfig) settings() map[string]setting {
	const (
		most32 = 1<<31 - 1
		year   = 366 * 24 * 3600 * 1000
	)
	return map[string]setting{
		"bindAddress":  textValue(&c.BindAddress, true),
		"listenPort":   intValue(&c.ListenPort, 0, 65535),
		"kvConfigPath": textValue(&c.KvConfigPath, true),

		"orderMessageEnable":                boolValue(&c.OrderMessageEnable),
		"returnOrderTopicConfigToBroker":    boolValue(&c.ReturnOrderTopicConfigToBroker),
		"enableAllTopicList":                boolValue(&c.EnableAllTopicList),
		"enableTopicList":                   boolValue(&c.EnableTopicList),
		"notifyMinBrokerIdChanged":          boolValue(&c.NotifyMinBrokerIDChanged),
		"supportActingMaster":               boolValue(&c.SupportActingMaster),
		"deleteTopicWithBrokerRegistration": boolValue(&c.DeleteTopicWithBrokerRegistration),
		"needWaitForService":                boolValue(&c.NeedWaitForService),
		"waitSecondsForService":             durationValue(&c.WaitSecondsForService, time.Second, 0, 3600),
		"scanNotActiveBrokerInterval":       durationValue(&c.ScanNotActiveBrokerInterval, time.Millisecond, 100, 600_000),

		"serverChannelMaxIdleTimeSeconds":      durationValue(&c.ServerChannelMaxIdleTimeSeconds, time.Second, 1, year/1000),
		"clientRequestThreadPoolQueueCapacity": intValue(&c.ClientRequestThreadPoolQueueCapacity, 1, most32),
		"defaultThreadPoolQueueCapacity":       intValue(&c.DefaultThreadPoolQueueCapacity, 1, most32),
	}
}

// LoadNamesrvConfig is LoadBrokerConfig for a name server's file.
func LoadNamesrvConfig(path string, env func(string) string, log *slog.Logger, strict bool) (*NamesrvConfig, error) {
	c, err := newNamesrvConfig()
	if err != nil {
		return nil, err
	}
	if err := c.keys.load(path, log, strict); err != nil {
		return nil, err
	}
	return c, c.finish(withJavaOptions(env))
}

// namesrvConfigOf is brokerConfigOf for a name server; the values must name kvConfigPath.
func namesrvConfigOf(values map[string]string, source string) (*NamesrvConfig, error) {
	c, err := newNamesrvConfig()
	if err != nil {
		return nil, err
	}
	if err := c.keys.assign(values, source); err != nil {
		return nil, err
	}
	return c, c.finish(func(string) string { return "" })
}

func newNamesrvConfig() (c *NamesrvConfig, err error) {
	c = &NamesrvConfig{}
	c.keys, err = newKeySettings(roleNamesrv, c.settings())
	return c, err
}

// finish fills the gaps.
func (c *NamesrvConfig) finish(env func(string) string) error {
	if home := env("HOME"); home != "" {
		if err := c.keys.derive("kvConfigPath", filepath.Join(home, "namesrv", "kvConfig.json"), sourceDetected); err != nil {
			return err
		}
	}
	if c.KvConfigPath == "" {
		return errors.New("HOME is not set and no file names kvConfigPath: there is nowhere to keep the name server's settings")
	}
	return nil
}

// Items is BrokerConfig.Items for a name server.
func (c *NamesrvConfig) Items() []ConfigItem { return c.keys.items() }

package main

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
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

	ArbiterListenPort int    // of the first arbiter; 0 = this name server offers none
	ArbiterStorePath  string // directory of the arbiters; default: arbiters beside KvConfigPath
	ArbiterMaxBytes   int64  // that one arbiter keeps for an absent replica
	ArbiterAddress    string // IP address that brokers reach the arbiters at; never empty

	EnableControllerInNamesrv bool          // ControllerPort answers too
	ControllerDLegerPeers     []DLedgerPeer // in file order
	ControllerDLegerSelfID    int64         // own number in ControllerDLegerPeers; -1 = not given

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

		"arbiterListenPort": intValue(&c.ArbiterListenPort, 0, 65535),
		"arbiterStorePath":  textValue(&c.ArbiterStorePath, true),
		"arbiterMaxBytes":   intValue(&c.ArbiterMaxBytes, 1<<20, 1<<50),
		"arbiterAddress":    ipValue(&c.ArbiterAddress),

		"enableControllerInNamesrv": boolValue(&c.EnableControllerInNamesrv),
		"controllerDLegerPeers":     peersValue(&c.ControllerDLegerPeers),
		"controllerDLegerSelfId":    memberValue(&c.ControllerDLegerSelfID),

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
	return c, c.finish(withJavaOptions(env), log)
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
	return c, c.finish(func(string) string { return "" }, slog.New(slog.DiscardHandler))
}

func newNamesrvConfig() (c *NamesrvConfig, err error) {
	c = &NamesrvConfig{ControllerDLegerSelfID: -1}
	c.keys, err = newKeySettings(roleNamesrv, c.settings())
	return c, err
}

// finish fills the gaps.
func (c *NamesrvConfig) finish(env func(string) string, log *slog.Logger) error {
	if home := env("HOME"); home != "" {
		if err := c.keys.derive("kvConfigPath", filepath.Join(home, "namesrv", "kvConfig.json"), sourceDetected); err != nil {
			return err
		}
	}
	if c.KvConfigPath == "" {
		return errors.New("HOME is not set and no file names kvConfigPath: there is nowhere to keep the name server's settings")
	}
	if err := c.keys.derive("arbiterStorePath", filepath.Join(filepath.Dir(c.KvConfigPath), "arbiters"), sourceDetected); err != nil {
		return err
	}
	if !c.keys.isSet("arbiterListenPort") && c.ListenPort > 0 && c.ListenPort < 65535 {
		c.ArbiterListenPort = c.ListenPort + 1
	}
	if bound, err := netip.ParseAddr(c.BindAddress); err == nil && !bound.IsUnspecified() && c.ArbiterAddress == "" {
		c.ArbiterAddress = c.BindAddress // it is reached nowhere else
		c.keys.sources["arbiterAddress"] = sourceDetected
	}
	if c.ArbiterAddress == "" {
		c.ArbiterAddress = detectAddress(log)
		c.keys.sources["arbiterAddress"] = sourceDetected
	}
	return nil
}

// Items is BrokerConfig.Items for a name server.
func (c *NamesrvConfig) Items() []ConfigItem { return c.keys.items() }

// ControllerPort is where tools that ask a controller are answered too, by the own entry of controllerDLegerPeers; "" if
// the file asks for no controller.
func (c *NamesrvConfig) ControllerPort() string {
	if !c.EnableControllerInNamesrv {
		return ""
	}
	for _, p := range c.ControllerDLegerPeers {
		if p.Number == c.ControllerDLegerSelfID || len(c.ControllerDLegerPeers) == 1 {
			_, port, err := net.SplitHostPort(p.Address)
			if err != nil {
				return "" // cannot be: the list was checked
			}
			return port
		}
	}
	return ""
}

package compat_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"rmq/compat"
	"rmq/compat/broker"
	"rmq/remoting/protocol"
)

// updateBrokerConfig changes what can be changed, and says what it cannot change and why.
func TestUpdateBrokerConfig(t *testing.T) {
	leader := *startReplica(t, t.TempDir())
	own := map[string]string{}
	options := compat.Options{
		Identity: func() compat.Identity { return compat.Identity{Cluster: "DefaultCluster", BrokerName: "broker-a"} },
		Properties: func() []compat.Property {
			return []compat.Property{{Key: "brokerRole", Value: "SLAVE"}, {Key: "slaveTimeout", Value: "3000"}}
		},
		UpdateConfig: func(_ context.Context, changes map[string]string) ([]string, error) {
			var restart []string
			for key, value := range changes {
				switch key {
				case "slaveReadEnable":
				case "listenPort":
					return nil, &broker.Refusal{Reason: broker.NoPermission, Text: "listenPort is fixed"}
				case "sendMessageThreadPoolNums":
					restart = append(restart, key)
				case "broken":
					return nil, errors.New("disk full")
				default:
					return nil, &broker.Refusal{Reason: broker.InvalidParameter, Text: key + " is no key"}
				}
				own[key] = value
			}
			return restart, nil
		},
	}
	serveBeside(t, &leader, options)
	followersOwn := leader
	f := &follower{replica: &followersOwn, leaderAt: leader.addr}
	options.Leadership = f
	serveBeside(t, &followersOwn, options)

	for _, r := range []*replica{&leader, f.replica} {
		for _, c := range []struct {
			body string
			want int32
			says string
		}{
			{"slaveReadEnable=true\n", protocol.Success, ""},
			{"# by hand\n\n slaveReadEnable = false \n", protocol.Success, ""},
			{"sendMessageThreadPoolNums=4", protocol.Success, "sendMessageThreadPoolNums"},
			{"slaveReadEnabled=true", protocol.InvalidParameter, "slaveReadEnabled"},
			{"listenPort=1", protocol.NoPermission, "listenPort"},
			{"broken=1", protocol.SystemError, "disk full"},
			{"slaveTimeout=1500", protocol.Success, ""},
			{"slaveTimeout=soon", protocol.InvalidParameter, "slaveTimeout"},
			{"slaveTimeout=1600\nslaveReadEnable=true", protocol.InvalidParameter, "one after the other"},
			{"slaveTimeout", protocol.InvalidParameter, "key=value"},
			{"", protocol.InvalidParameter, "no key"},
			{strings.Repeat("x", 200), protocol.InvalidParameter, "key=value"},
		} {
			resp := r.call(protocol.UpdateBrokerConfig, nil, []byte(c.body))
			if resp.Code != c.want || !strings.Contains(resp.Remark, c.says) {
				t.Errorf("%q: %d %s, want %d", c.body, resp.Code, resp.Remark, c.want)
			}
		}
		if got := fmt.Sprint(own); got != "map[sendMessageThreadPoolNums:4 slaveReadEnable:false]" {
			t.Errorf("changed here: %s", got)
		}
		text := string(r.ask(protocol.GetBrokerConfig, nil, nil, nil).Body)
		if text != "brokerRole=SLAVE\nslaveTimeout=1500\n" {
			t.Errorf("the configuration in force:\n%s", text)
		}
	}
}

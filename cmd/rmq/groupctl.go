package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"rmq/compat/admin"
	"rmq/remoting/fastjson"
	"rmq/remoting/protocol"
)

// groupTimeout bounds one request of rmq group: a replica may have to catch up before it leads, and a leader to hand over before
// it is removed.
const groupTimeout = 8 * time.Second

// exitPartial says that some of several groups or servers failed.
const exitPartial = 3

const groupUsage = `rmq group COMMAND -n ADDR [FLAGS]

  status  [-b NAME] [-o json]      who is in each group, who leads, how far each replica is
  transfer        -b NAME --to N   hand the lead to replica N, once it has caught up
  balance                          spread the leaders evenly over the processes, now
  remove-replica  -b NAME --number N
                                   take replica N out of the group for good
  forget  -c CLUSTER -b NAME       have the name servers forget a group that is lost, so that it can be founded anew

A replica's number is the brokerId of its file, or the digit of its dLegerSelfId.

To add a replica, start a broker with a file of the group's brokerClusterName and brokerName, brokerRole=SLAVE and a
brokerId that no other replica has. It is filled by the leader and gets its vote when it has caught up; rmq group status
shows how far it is.`

// runGroup is rmq group.
func runGroup(ctx context.Context, env environment, args []string) error {
	f := pflag.NewFlagSet("group", pflag.ContinueOnError)
	t := &groupTool{env: env}
	commands := map[string]func(ctx context.Context) error{
		"status": t.status, "transfer": t.transfer, "balance": t.balance, "remove-replica": t.removeReplica, "forget": t.forget,
	}
	n := nameServerFlag(f, env)
	f.StringVarP(&t.broker, "brokerName", "b", "", "the group's brokerName")
	f.StringVarP(&t.clusterName, "clusterName", "c", "", "the group's brokerClusterName")
	f.StringVarP(&t.format, "output", "o", "text", "text or json, of status")
	f.IntVar(&t.number, "to", -1, "number of the replica that is to lead")
	remove := f.Int("number", -1, "number of the replica that is to be removed")
	if asked, err := parseFlags(f, env, groupUsage, args); asked || err != nil {
		return err
	}
	run := commands[f.Arg(0)]
	if run == nil || f.NArg() != 1 {
		return &exitError{exitUsage, errors.New("give one of status, transfer, balance, remove-replica, forget; rmq group -h explains them")}
	}
	if f.Arg(0) == "remove-replica" {
		t.number = *remove
	}
	if err := t.check(f.Arg(0)); err != nil {
		return &exitError{exitUsage, err}
	}
	var err error
	if t.servers, err = nameServers(*n, env); err != nil {
		return err
	}
	t.cluster = admin.NewCluster(t.servers, groupTimeout)
	defer t.cluster.Close()
	err = run(ctx)
	var coded *exitError
	if err != nil && !errors.As(err, &coded) {
		err = &exitError{exitUsage, err}
	}
	return err
}

// groupTool is one run of rmq group.
type groupTool struct {
	env         environment
	servers     []string
	cluster     *admin.Cluster
	broker      string
	clusterName string
	format      string
	number      int
}

func (t *groupTool) check(command string) error {
	switch {
	case t.format != "text" && t.format != "json":
		return fmt.Errorf("-o %s: text or json", t.format)
	case command == "transfer" && (t.broker == "" || t.number < 0):
		return errors.New("give the group with -b and the replica that is to lead with --to")
	case command == "remove-replica" && (t.broker == "" || t.number < 0):
		return errors.New("give the group with -b and the replica with --number")
	case command == "forget" && (t.broker == "" || t.clusterName == ""):
		return errors.New("give the group with -c and -b")
	}
	return nil
}

// groups asks for the registered groups, by name: those that -b and -c want.
func (t *groupTool) groups(ctx context.Context) ([]string, map[string]protocol.BrokerData, error) {
	brokers, err := t.cluster.Brokers(ctx)
	if err != nil {
		return nil, nil, err
	}
	maps.DeleteFunc(brokers, func(name string, b protocol.BrokerData) bool {
		return t.broker != "" && name != t.broker || t.clusterName != "" && b.Cluster != t.clusterName
	})
	if len(brokers) == 0 {
		return nil, nil, fmt.Errorf("%s is not registered with the name server", cmp.Or(t.broker, "a broker of that cluster"))
	}
	return slices.Sorted(maps.Keys(brokers)), brokers, nil
}

// leaderFirst returns where the replicas of a group answer, the registered leader first.
func leaderFirst(b protocol.BrokerData) []string {
	var list []string
	for _, id := range slices.Sorted(maps.Keys(b.BrokerAddrs)) {
		list = append(list, b.BrokerAddrs[id])
	}
	return list
}

// ask asks the replicas of a group in turn until one answers: any of them passes a request on to its leader.
func (t *groupTool) ask(ctx context.Context, code int32, h protocol.Header) (*protocol.Command, error) {
	_, brokers, err := t.groups(ctx)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, addr := range leaderFirst(brokers[t.broker]) {
		resp, err := t.cluster.Call(ctx, addr, code, h)
		if reply := (*admin.ReplyError)(nil); err == nil || errors.As(err, &reply) {
			return resp, err
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// electionPatience is how long rmq group status waits for a group to have a leader.
const electionPatience = 2 * time.Second

// statusOf asks a group for its status: its leader, if there is one within electionPatience.
func (t *groupTool) statusOf(ctx context.Context, b protocol.BrokerData) (protocol.GroupStatusBody, error) {
	for deadline := time.Now().Add(electionPatience); ; {
		s, err := t.statusNow(ctx, b)
		if err == nil && s.Leads || time.Now().After(deadline) || !sleep(ctx, leaderPoll) {
			return s, err
		}
	}
}

func (t *groupTool) statusNow(ctx context.Context, b protocol.BrokerData) (status protocol.GroupStatusBody, err error) {
	var errs []error
	known := false
	for _, addr := range leaderFirst(b) {
		var s protocol.GroupStatusBody
		resp, err := t.cluster.Call(ctx, addr, protocol.GroupStatus, nil)
		if err == nil {
			err = fastjson.Unmarshal(resp.Body, &s)
		}
		switch {
		case err != nil:
			errs = append(errs, err)
		case s.Leads:
			return s, nil
		default:
			status, known = s, true
		}
	}
	if known {
		return status, nil
	}
	return status, errors.Join(errs...)
}

// status is rmq group status. A group that nobody tells of, or that has no leader, is a failure after the others are shown.
func (t *groupTool) status(ctx context.Context) error {
	names, brokers, err := t.groups(ctx)
	if err != nil {
		return err
	}
	all := []protocol.GroupStatusBody{}
	failed := 0
	for _, name := range names {
		s, err := t.statusOf(ctx, brokers[name])
		switch {
		case err != nil:
			fmt.Fprintf(t.env.stderr, "%s: %v\n", name, err)
			failed++
			continue
		case !s.Leads:
			fmt.Fprintf(t.env.stderr, "%s: no leader answers; this is what one of its followers knows\n", name)
			failed++
		}
		all = append(all, s)
	}
	if t.format == "json" {
		text, err := json.MarshalIndent(all, "", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintf(t.env.stdout, "%s\n", text)
	} else if err := printGroups(t.env.stdout, all); err != nil {
		return err
	}
	return failures(failed, len(names))
}

// failures is the exit code of a run over several things.
func failures(failed, of int) error {
	switch {
	case failed == 0:
		return nil
	case failed < of:
		return quiet(exitPartial)
	}
	return quiet(exitUsage)
}

func printGroups(w io.Writer, all []protocol.GroupStatusBody) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "GROUP\tREPLICA\tROLE\tADDRESS\tRAFT ADDRESS\tIN SYNC\tLAG\tSTATE")
	for _, g := range all {
		for _, r := range g.Replicas {
			number, sync, lag := strconv.Itoa(r.Number), "no", "?"
			if r.Number < 0 {
				number = "-"
			}
			if r.InSync {
				sync = "yes"
			}
			if r.LagBytes >= 0 {
				lag = byteSize(uint64(r.LagBytes))
			}
			fmt.Fprintln(table, strings.Join([]string{g.BrokerName, number, r.Role, cmp.Or(r.Address, "-"), r.RaftAddr, sync, lag, replicaWords(&g, &r)}, "\t"))
		}
	}
	return table.Flush()
}

// replicaWords says what else there is to a replica.
func replicaWords(g *protocol.GroupStatusBody, r *protocol.ReplicaStatus) string {
	var words []string
	if !r.Connected {
		words = append(words, "not in contact")
		if !g.Leads {
			words = []string{"not known"}
		}
	}
	if r.Filling {
		words = append(words, fmt.Sprintf("filling: %s of %s", byteSize(uint64(max(r.FilledSize, 0))), byteSize(uint64(max(r.FillSize, 0)))))
	}
	if r.Muted {
		words = append(words, "without vote until it has caught up")
	}
	return cmp.Or(strings.Join(words, ", "), "ok")
}

// transfer is rmq group transfer.
func (t *groupTool) transfer(ctx context.Context) error {
	h, err := t.elect(ctx, t.broker, t.number)
	if err == nil {
		fmt.Fprintf(t.env.stdout, "%s is led by replica %d at %s, term %d\n", t.broker, h.MasterBrokerID, h.MasterAddress, h.MasterEpoch)
	}
	return err
}

func (t *groupTool) elect(ctx context.Context, group string, number int) (h protocol.ElectMasterResponseHeader, err error) {
	one := *t
	one.broker = group
	resp, err := one.ask(ctx, protocol.ControllerElectMaster, &protocol.ElectMasterRequestHeader{
		ClusterName: t.clusterName, BrokerName: group, BrokerID: int64(number), DesignateElect: true, InvokeTime: time.Now().UnixMilli(),
	})
	if err == nil {
		err = h.Decode(resp.Ext)
	}
	return h, err
}

// removeReplica is rmq group remove-replica.
func (t *groupTool) removeReplica(ctx context.Context) error {
	_, err := t.ask(ctx, protocol.CleanBrokerData, &protocol.CleanBrokerDataRequestHeader{
		ClusterName: t.clusterName, BrokerName: t.broker, IDs: strconv.Itoa(t.number), Living: true, InvokeTime: time.Now().UnixMilli(),
	})
	if err == nil {
		fmt.Fprintf(t.env.stdout, "replica %d is out of %s; its process stops serving the group. With an empty directory it could join as a new one\n", t.number, t.broker)
	}
	return err
}

// forget is rmq group forget.
func (t *groupTool) forget(ctx context.Context) error {
	fmt.Fprintf(t.env.stderr, "%s will be forgotten: the next broker with brokerId=0 and that name founds it anew, EMPTY. "+
		"Whatever a replica that is still somewhere holds cannot be joined to it any more.\n", t.broker)
	body, err := json.Marshal(protocol.ForgetGroupBody{Cluster: t.clusterName, Group: t.broker})
	if err != nil {
		return err
	}
	failed := 0
	for _, server := range t.servers {
		if err := t.forgetAt(ctx, server, body); err != nil {
			fmt.Fprintf(t.env.stderr, "%s: %v\n", server, err)
			failed++
			continue
		}
		fmt.Fprintf(t.env.stdout, "%s has forgotten %s of %s\n", server, t.broker, t.clusterName)
	}
	return failures(failed, len(t.servers))
}

func (t *groupTool) forgetAt(ctx context.Context, server string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, groupTimeout)
	defer cancel()
	cmd := protocol.NewRequest(protocol.ForgetGroup, nil)
	cmd.Body = body
	resp, err := t.cluster.Client().Call(ctx, server, cmd)
	if err == nil && resp.Code != protocol.Success {
		err = &admin.ReplyError{Code: resp.Code, Remark: resp.Remark}
	}
	return err
}

// balance is rmq group balance: it hands leads on, each group's at most once, until no process leads two groups more than another
// one that could have one of them.
func (t *groupTool) balance(ctx context.Context) error {
	names, brokers, err := t.groups(ctx)
	if err != nil {
		return err
	}
	var all []protocol.GroupStatusBody
	for _, name := range names {
		s, err := t.statusOf(ctx, brokers[name])
		if err == nil && !s.Leads {
			err = errors.New("no leader answers")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err) // half a picture would be balanced wrongly
		}
		all = append(all, s)
	}
	moves := balanceMoves(all)
	for _, m := range moves {
		if _, err := t.elect(ctx, m.group, m.to.Number); err != nil {
			return fmt.Errorf("%s stays where it is: %w", m.group, err)
		}
		fmt.Fprintf(t.env.stdout, "%s is led by replica %d at %s\n", m.group, m.to.Number, m.to.Address)
	}
	if len(moves) == 0 {
		fmt.Fprintln(t.env.stdout, "the leaders are spread evenly")
	}
	return nil
}

// leadMove hands the lead of a group to a replica.
type leadMove struct {
	group string
	to    protocol.ReplicaStatus
}

// balanceMoves plans which leads to hand on, one after the other. The status of every group comes from its leader.
func balanceMoves(all []protocol.GroupStatusBody) []leadMove {
	leads := map[string]int{} // by process
	leader := make([]string, len(all))
	for i, g := range all {
		for _, r := range g.Replicas {
			if r.Role == "leader" {
				leads[r.Node]++
				leader[i] = r.Node
			}
		}
	}
	moved := make([]bool, len(all))
	var moves []leadMove
	for {
		group, best := -1, protocol.ReplicaStatus{}
		most := 1 // a move has to even out a difference of two
		for i, g := range all {
			for _, r := range g.Replicas {
				able := r.Role == "voter" && r.InSync && !r.Muted && r.Node != "" && leader[i] != ""
				if gap := leads[leader[i]] - leads[r.Node]; able && !moved[i] && gap > most {
					group, best, most = i, r, gap
				}
			}
		}
		if group < 0 {
			return moves
		}
		leads[leader[group]]--
		leads[best.Node]++
		moved[group] = true
		moves = append(moves, leadMove{all[group].BrokerName, best})
	}
}

package namesrv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"rmq/remoting"
	"rmq/remoting/protocol"
)

// Refusals of a name server, as Asker returns them. Callers compare with errors.Is.
var (
	// ErrGroupHeld: the group may not be founded by the one who asks; the text names who holds it.
	ErrGroupHeld = errors.New("the group exists elsewhere")
	// ErrArbiterOff: the name server offers no arbiters.
	ErrArbiterOff = errors.New("arbiters are off")
	// ErrArbiterLimit: the name server has as many arbiters as it may.
	ErrArbiterLimit = errors.New("too many arbiters")
	// ErrSharesHost: the name server is on the machine of a data replica.
	ErrSharesHost = errors.New("the machine holds a data replica of the group, too")
	// ErrNoArbiter: no name server offers an arbiter.
	ErrNoArbiter = errors.New("no name server offers an arbiter")
)

// errNobodyKnows: no name server answered.
var errNobodyKnows = errors.New("no name server tells whether the group exists")

// errNotRmq: the name server is not rmq's, and knows nothing of founding and arbiters.
var errNotRmq = errors.New("the name server does not know the request")

// askTimeout bounds one question to one name server.
const askTimeout = 3 * time.Second

// Asker asks name servers what rmq's brokers need of them: for the right to found a group, and for arbiters. Its methods may be
// called at the same time.
type Asker struct {
	Client *remoting.Client
	// Servers returns the addresses of the name servers.
	Servers func() []string
}

// FoundGroup asks every name server whether the group may be founded. It fails with ErrGroupHeld if one of them says no. It returns
// until when the grant holds: the zero time if only name servers answered that are not rmq's, which have no objection. One that does not
// answer has none either, as long as another one does: one that is down must not stop a group from being founded. If none does, nothing is
// known of the group, and it fails.
func (a *Asker) FoundGroup(ctx context.Context, q protocol.FoundGroupBody) (until time.Time, err error) {
	answered := false
	failed := []error{errNobodyKnows}
	for _, server := range a.Servers() {
		sent := time.Now()
		var grant protocol.FoundGrant
		err := a.ask(ctx, server, protocol.FoundGroup, q, &grant)
		switch {
		case errors.Is(err, ErrGroupHeld):
			return time.Time{}, fmt.Errorf("name server %s: %w", server, err)
		case ctx.Err() != nil:
			return time.Time{}, context.Cause(ctx)
		case errors.Is(err, errNotRmq):
			answered = true
			continue
		case err != nil:
			failed = append(failed, fmt.Errorf("name server %s: %w", server, err))
			continue
		}
		answered = true
		if ends := sent.Add(time.Duration(grant.ValidMillis) * time.Millisecond); until.IsZero() || ends.Before(until) {
			until = ends
		}
	}
	if !answered {
		return time.Time{}, errors.Join(failed...)
	}
	return until, nil
}

// ReportMembers tells every name server who is in the group. It returns how many name servers of rmq took the report.
func (a *Asker) ReportMembers(ctx context.Context, report protocol.GroupMembersBody) (taken int, err error) {
	var failed []error
	for _, server := range a.Servers() {
		err := a.ask(ctx, server, protocol.GroupMembers, report, nil)
		switch {
		case err == nil:
			taken++
		case !errors.Is(err, errNotRmq):
			failed = append(failed, fmt.Errorf("name server %s: %w", server, err))
		}
	}
	return taken, errors.Join(failed...)
}

// OfferArbiter asks the name servers in turn for an arbiter, first for one on a machine without a data replica of the group. It fails
// with ErrNoArbiter and the reasons.
func (a *Asker) OfferArbiter(ctx context.Context, q protocol.ArbiterRequest) (protocol.ArbiterOffer, error) {
	why := []error{ErrNoArbiter}
	for _, q.OtherHost = range []bool{true, false} {
		for _, server := range a.Servers() {
			var offer protocol.ArbiterOffer
			err := a.ask(ctx, server, protocol.OfferArbiter, q, &offer)
			if err == nil {
				return offer, nil
			}
			if !q.OtherHost || !errors.Is(err, ErrSharesHost) {
				why = append(why, fmt.Errorf("name server %s: %w", server, err))
			}
		}
		if len(why) > len(a.Servers()) {
			break // nobody refused for the machine alone
		}
	}
	return protocol.ArbiterOffer{}, errors.Join(why...)
}

// ask sends one question with a JSON body and reads a JSON answer into out, if that is not nil.
func (a *Asker) ask(ctx context.Context, server string, code int32, body, out any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	cmd := protocol.NewRequest(code, nil)
	var err error
	if cmd.Body, err = json.Marshal(body); err != nil {
		return err
	}
	answer, err := a.Client.Call(ctx, server, cmd)
	if err != nil {
		return err
	}
	if answer.Code != protocol.Success {
		return refusalOf(answer)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer.Body, out); err != nil {
		return fmt.Errorf("the answer of %s cannot be read: %w", server, err)
	}
	return nil
}

// refusalOf is the error that a name server answered with.
func refusalOf(answer *protocol.Command) error {
	known := map[int32]error{
		protocol.RequestCodeNotSupported: errNotRmq,
		protocol.GroupHeld:               ErrGroupHeld,
		protocol.ArbiterOff:              ErrArbiterOff,
		protocol.ArbiterLimit:            ErrArbiterLimit,
		protocol.ArbiterSharesHost:       ErrSharesHost,
	}
	if err, ok := known[answer.Code]; ok {
		return fmt.Errorf("%w: %s", err, answer.Remark)
	}
	return fmt.Errorf("code %d: %s", answer.Code, answer.Remark)
}

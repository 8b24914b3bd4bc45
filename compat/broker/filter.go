package broker

import (
	"strings"

	"rmq/store/message"
)

// Subscription is what a consumer group wants of one topic.
type Subscription struct {
	Topic          string
	Expression     string // SubString: "*" or "TagA || TagB"
	ExpressionType string // "TAG" (also when empty) or "SQL92"
	Version        int64  // SubVersion: grows when the consumer changes the expression
	Tags           []string
	Codes          []int32
	ClassFilter    bool // a filter class of RocketMQ 3, kept for display only
}

// ExpressionTag is the expression type of a list of tags.
const ExpressionTag = "TAG"

// subscriptionLengthMax bounds an expression, whatever its type.
const subscriptionLengthMax = 4 << 10

// tagFilter passes messages whose tag hash is wanted; clients compare the tags themselves, so a collision does no harm.
type tagFilter []int64

// Match reports whether a message with this tag hash may be wanted.
func (f tagFilter) Match(code int64) bool {
	for _, c := range f {
		if c == code {
			return true
		}
	}
	return false
}

// NeedsMessage is false: the hash in the queue's index decides.
func (f tagFilter) NeedsMessage() bool { return false }

// MatchMessage is never asked.
func (f tagFilter) MatchMessage(message.View) bool { return true }

// parseTags turns "TagA || TagB" into a filter; nil stands for every message.
func parseTags(expression string) (tagFilter, error) {
	if len(expression) > subscriptionLengthMax {
		return nil, refuse(SubscriptionInvalid, "parse the consumer's subscription failed: the expression has %d bytes, the limit is %d", len(expression), subscriptionLengthMax)
	}
	if expression == "" || expression == "*" {
		return nil, nil
	}
	var f tagFilter
	for tag := range strings.SplitSeq(expression, "||") {
		switch tag = strings.TrimSpace(tag); tag {
		case "":
		case "*":
			return nil, nil
		default:
			f = append(f, message.TagsCode([]byte(tag)))
		}
	}
	if len(f) == 0 {
		return nil, refuse(SubscriptionInvalid, "parse the consumer's subscription failed: %q names no tag", expression)
	}
	return f, nil
}

// CheckExpression says whether the broker can evaluate a subscription; clients ask before they start.
func CheckExpression(kind, expression string) error {
	if err := checkExpressionType(kind); err != nil {
		return err
	}
	_, err := parseTags(expression)
	return err
}

package broker

import (
	"context"
	"slices"
	"time"

	"rmq/store"
)

// runRetention trims the log until ctx ends. Only the leader decides; every replica applies the same cut.
func (b *Broker) runRetention(ctx context.Context) {
	every(ctx, b.clock, b.opts.RetentionCheckEvery, func() { b.retain(ctx) })
}

// retain looks once whether bytes should go, and proposes the cut. Whole segments are freed, oldest first:
//   - messages older than the retention age, in the configured hours of day;
//   - the same at any hour once the disk is fuller than DiskUsedRatioMax;
//   - the oldest segment, whatever its age, from DiskForceRatio on;
//
// but never past TrimLimit; and from DiskWarningRatio on writes are refused until there is room again.
func (b *Broker) retain(ctx context.Context) {
	used := 0.0
	if b.opts.DiskUsage != nil {
		ratio, err := b.opts.DiskUsage()
		if err != nil {
			b.logger.Warn("the disk's usage cannot be read, retention goes by age alone", "error", err)
		} else {
			used = ratio
			b.setDiskFull(used) // what cannot be read changes nothing
		}
	}
	now := b.clock.Now()
	expired := now.Add(-b.opts.RetentionAge).UnixMilli()
	byAge := slices.Contains(b.opts.RetentionHours, now.Hour()) || used >= b.opts.DiskUsedRatioMax
	force := used >= b.opts.DiskForceRatio
	cut := int64(0)
	segment, limit := b.opts.SegmentBytes, b.log.EndOffset()-1
	if b.opts.TrimLimit != nil {
		limit = min(limit, b.opts.TrimLimit())
	}
	for end := b.log.MinOffset() - b.log.MinOffset()%segment + segment; end <= limit; end += segment {
		last, ok := b.store.StoreTimeBefore(end)
		old := ok && last < expired
		if !(old && byAge || force) {
			break
		}
		cut = end
		force = false // one segment a round: the next round sees how much that gave
	}
	if cut == 0 {
		return
	}
	if err := b.trim(ctx, cut); err != nil && ctx.Err() == nil {
		b.logger.Warn("the log was not trimmed, will be tried again", "below", cut, "error", err)
	}
}

// trim moves what must survive out of the range below the cut, then proposes the cut.
func (b *Broker) trim(ctx context.Context, cut int64) error {
	parked := func() []store.Timer { return b.store.TimersBelow(cut, fireMessagesMax) }
	for more := true; more; {
		var err error
		if more, err = b.refile(ctx, parked, b.keepParked); err != nil {
			return err
		}
	}
	began := b.clock.Now()
	if _, err := b.append(ctx, store.Trim(cut)); err != nil {
		return err
	}
	b.logger.Info("log trimmed", "below", cut, "took", b.clock.Now().Sub(began).Round(time.Millisecond))
	return nil
}

func (b *Broker) setDiskFull(used float64) {
	if used < b.opts.DiskWarningRatio {
		if b.readOnly.Swap(nil) != nil {
			b.logger.Info("writes are accepted again", "diskUsed", used)
		}
		return
	}
	reason := refuse(NotAvailable, "disk full: used %.0f%% limit %.0f%%, free space or lower fileReservedTime", used*100, b.opts.DiskWarningRatio*100).Text
	if b.readOnly.Swap(&reason) == nil {
		b.logger.Error("STORE_NO_SPACE: writes are refused", "diskUsed", used, "limit", b.opts.DiskWarningRatio)
	}
}

package rmq.clients;

import java.util.Locale;

/**
 * A histogram of times in microseconds: 64 steps per power of two, so a value read from it is at most 1.6 % too low. One thread adds; add
 * another's counts with {@link #merge} once that thread has ended.
 */
final class Latencies {
    private static final int STEP_BITS = 6;
    private static final int STEPS = 1 << STEP_BITS;

    private final long[] counts = new long[(Long.SIZE - STEP_BITS) * STEPS];
    private long count;
    private double sumMicros;
    private long maxMicros;

    void add(long micros) {
        long v = Math.max(micros, 0);
        counts[index(v)]++;
        count++;
        sumMicros += v;
        maxMicros = Math.max(maxMicros, v);
    }

    void merge(Latencies other) {
        for (int i = 0; i < counts.length; i++) {
            counts[i] += other.counts[i];
        }
        count += other.count;
        sumMicros += other.sumMicros;
        maxMicros = Math.max(maxMicros, other.maxMicros);
    }

    void clear() {
        java.util.Arrays.fill(counts, 0);
        count = 0;
        sumMicros = 0;
        maxMicros = 0;
    }

    long count() {
        return count;
    }

    /** The members of a JSON object, in milliseconds. */
    String json() {
        return String.format(Locale.ROOT, "{\"mean\":%.3f,\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f}",
            count == 0 ? 0 : sumMicros / count / 1000, quantile(0.5), quantile(0.9), quantile(0.99), quantile(0.999), maxMicros / 1000.0);
    }

    /** The smallest time, in milliseconds, that a share q of the values does not exceed. */
    private double quantile(double q) {
        long rank = (long) Math.ceil(q * count);
        for (int i = 0; i < counts.length; i++) {
            rank -= counts[i];
            if (rank <= 0) {
                return count == 0 ? 0 : value(i) / 1000.0;
            }
        }
        return maxMicros / 1000.0;
    }

    /** Values below 2 * STEPS have a bucket each; above, a bucket spans 2^shift values. */
    private static int index(long v) {
        int shift = Math.max(0, Long.SIZE - Long.numberOfLeadingZeros(v) - STEP_BITS - 1);
        return shift * STEPS + (int) (v >>> shift);
    }

    private static long value(int index) {
        int shift = Math.max(0, index / STEPS - 1);
        return (long) (index - shift * STEPS) << shift;
    }
}

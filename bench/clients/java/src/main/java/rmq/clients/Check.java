package rmq.clients;

import java.util.Arrays;
import java.util.Objects;

/** Assertions whose message says what was looked at, what was expected and what came. All of them throw {@link AssertionError}. */
final class Check {
    private Check() {
    }

    static void that(boolean ok, String format, Object... args) {
        if (!ok) {
            throw new AssertionError(String.format(format, args));
        }
    }

    static void equal(String what, Object want, Object got) {
        that(Objects.equals(want, got), "%s: want %s, got %s", what, want, got);
    }

    static void equal(String what, byte[] want, byte[] got) {
        that(got != null, "%s: want %d bytes, got none", what, want.length);
        int at = Arrays.mismatch(want, got);
        that(at < 0, "%s: want %d bytes, got %d, first difference at %d", what, want.length, got.length, at);
    }

    static void between(String what, long low, long high, long got) {
        that(got >= low && got <= high, "%s: want %d..%d, got %d", what, low, high, got);
    }

    /** Runs body and returns what it threw; an ordinary return is the failure. */
    static Throwable fails(String what, Body body) {
        try {
            body.run();
        } catch (Throwable e) {
            return e;
        }
        throw new AssertionError(what + ": no error came");
    }

    /** Requires body to fail with this RocketMQ response code, wherever in the chain of causes the client has put it. */
    static void failsWithCode(String what, int code, Body body) {
        Throwable e = fails(what, body);
        Check.equal(what + " (" + e + "), response code", code, responseCode(e));
    }

    private static int responseCode(Throwable e) {
        for (Throwable t = e; t != null; t = t.getCause()) {
            if (t instanceof org.apache.rocketmq.client.exception.MQBrokerException b) {
                return b.getResponseCode();
            }
            if (t instanceof org.apache.rocketmq.client.exception.MQClientException c && c.getResponseCode() > 0) {
                return c.getResponseCode();
            }
        }
        return -1;
    }

    interface Body {
        void run() throws Exception;
    }
}

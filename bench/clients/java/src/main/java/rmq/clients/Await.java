package rmq.clients;

import java.util.concurrent.Callable;

/** Waits for what other threads or the broker bring about, by looking again every few milliseconds. */
final class Await {
    private static final long LOOK_MS = 5;

    private Await() {
    }

    /** Returns once condition holds; after timeoutMs it fails with what was waited for. An exception of the condition counts as "not yet". */
    static void until(String what, long timeoutMs, Callable<Boolean> condition) throws InterruptedException {
        long deadline = System.nanoTime() + timeoutMs * 1_000_000;
        Exception last = null;
        while (true) {
            try {
                if (condition.call()) {
                    return;
                }
                last = null;
            } catch (InterruptedException e) {
                throw e;
            } catch (Exception e) {
                last = e;
            }
            if (System.nanoTime() > deadline) {
                throw new AssertionError("waited " + timeoutMs + " ms for: " + what + (last == null ? "" : " (" + last + ")"));
            }
            Thread.sleep(LOOK_MS);
        }
    }

    /** Lets ms pass, for checks that something does not happen. */
    static void quiet(long ms) throws InterruptedException {
        Thread.sleep(ms);
    }
}

package rmq.clients;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * Runs the conformance cases of the Apache Java client against a name server and its broker.
 *
 * <pre>--namesrv HOST:PORT [--cases GLOB,GLOB] [--skip GLOB,GLOB] [--parallel N] [--messages N]</pre>
 *
 * One line per case, "PASS name ms" or "FAIL name reason", then "N passed, N failed"; exit 1 if one failed or none ran.
 * The case "load" runs after the others, alone, with --messages messages each way.
 */
public final class Conformance {
    private static final long CASE_SECONDS = 120;

    private Conformance() {
    }

    public static void main(String[] args) {
        Program.main(() -> run(args));
    }

    /** Returns the number of failed cases. */
    private static int run(String[] args) throws Exception {
        Flags flags = new Flags("conformance", args,
            "namesrv", System.getenv("NAMESRV_ADDR"), "cases", "*", "skip", "", "parallel", "8", "messages", "100000");
        Map<String, Case> cases = new LinkedHashMap<>();
        RetryCases.register(cases); // longest waits first
        SendCases.register(cases);
        PushCases.register(cases);
        PullCases.register(cases);
        QueryCases.register(cases);
        LimitCases.register(cases);
        LoadCase.register(cases, flags.number("messages"));
        Pattern wanted = globs(flags.text("cases"));
        Pattern skipped = globs(flags.text("skip"));
        cases.keySet().removeIf(name -> !wanted.matcher(name).matches() || skipped.matcher(name).matches());

        try (Cluster cluster = new Cluster(flags.text("namesrv"))) {
            Map<String, Case> alone = new LinkedHashMap<>();
            if (cases.containsKey("load")) {
                alone.put("load", cases.remove("load"));
            }
            int failed = runAll(cluster, cases, flags.number("parallel")) + runAll(cluster, alone, 1);
            int ran = cases.size() + alone.size();
            System.out.printf("%d passed, %d failed%n", ran - failed, failed);
            return ran == 0 ? 1 : failed;
        }
    }

    private static int runAll(Cluster cluster, Map<String, Case> cases, int parallel) throws InterruptedException {
        ExecutorService pool = Executors.newFixedThreadPool(parallel);
        List<Future<Boolean>> results = new ArrayList<>();
        cases.forEach((name, body) -> results.add(pool.submit(() -> run(cluster, name, body))));
        int failed = 0;
        for (Future<Boolean> r : results) {
            try {
                failed += r.get() ? 0 : 1;
            } catch (java.util.concurrent.ExecutionException e) {
                throw new IllegalStateException("the runner itself failed", e);
            }
        }
        pool.shutdown();
        return failed;
    }

    private static boolean run(Cluster cluster, String name, Case body) throws InterruptedException {
        long start = System.nanoTime();
        ExecutorService own = Executors.newSingleThreadExecutor(r -> daemon(r, name));
        Future<Void> result = own.submit(() -> {
            try (Ctx x = new Ctx(cluster, name)) {
                body.run(x);
            }
            return null;
        });
        String reason;
        try {
            result.get(CASE_SECONDS, TimeUnit.SECONDS);
            System.out.printf("PASS %s %d%n", name, (System.nanoTime() - start) / 1_000_000);
            return true;
        } catch (TimeoutException e) {
            reason = "not done after " + CASE_SECONDS + " s";
        } catch (java.util.concurrent.ExecutionException e) {
            reason = describe(e.getCause());
        } finally {
            own.shutdownNow();
        }
        System.out.printf("FAIL %s %s%n", name, reason.replaceAll("\\s*\\R\\s*", " "));
        return false;
    }

    private static Thread daemon(Runnable r, String name) {
        Thread t = new Thread(r, name);
        t.setDaemon(true);
        return t;
    }

    /** The message, and for anything but a failed check the place in this package it came from. */
    private static String describe(Throwable e) {
        StringBuilder s = new StringBuilder(e instanceof AssertionError ? String.valueOf(e.getMessage()) : e.toString());
        for (StackTraceElement at : e.getStackTrace()) {
            if (at.getClassName().startsWith("rmq.clients.") && !at.getClassName().endsWith(".Check") && !at.getClassName().endsWith(".Await")) {
                return s.append(" (").append(at.getFileName()).append(':').append(at.getLineNumber()).append(')').toString();
            }
        }
        return s.toString();
    }

    private static Pattern globs(String list) {
        String alternatives = List.of(list.split(",")).stream()
            .map(glob -> Pattern.quote(glob).replace("*", "\\E.*\\Q")).collect(Collectors.joining("|"));
        return Pattern.compile(alternatives);
    }
}

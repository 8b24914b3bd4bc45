package rmq.clients;

import java.util.concurrent.Callable;

/** How our main programs end: always with an exit, because threads of RocketMQ clients would keep the JVM alive after an exception. */
final class Program {
    private Program() {
    }

    /** Exits 0 if body returns 0, 1 if it returns something else or throws. */
    static void main(Callable<Integer> body) {
        int status = 1;
        try {
            status = body.call() == 0 ? 0 : 1;
        } catch (Throwable e) {
            e.printStackTrace();
        }
        System.out.flush();
        System.exit(status);
    }
}

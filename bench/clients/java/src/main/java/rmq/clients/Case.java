package rmq.clients;

/** One named behaviour. It passes when it returns; cases run side by side and share nothing but the cluster. */
interface Case {
    void run(Ctx x) throws Exception;
}

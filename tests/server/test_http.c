/*
 * The server over a fake engine: every route answers, connections that wait cost no thread, whoever
 * leaves is cancelled, whoever reads slowly holds back nobody, and memory that runs out anywhere
 * leads to a refusal at worst.
 */
#include "server/http.h"

#include <sys/resource.h>

#include "tests/check_main.h"
#include "tests/server/served.h"

/* ---- every route ---- */

struct row {
    const char *method, *path, *body;
    int status;
    const char *holds;
};

#define V2_IDS "{\"name\":\"input_ids\",\"datatype\":\"INT64\",\"shape\":[2,1],\"data\":[[1],[2]]}"

static const struct row rows[] = {
    {"GET", "/", NULL, 200, "<title>oftd</title>"},
    {"GET", "/health", NULL, 200, "{\"status\":\"ok\"}"},
    {"HEAD", "/health", NULL, 200, "Content-Length: 15"},
    {"GET", "/v2/health/live", NULL, 200, "{\"live\":true}"},
    {"GET", "/v2/health/ready", NULL, 200, "{\"ready\":true}"},
    {"GET", "/metrics", NULL, 200, "vllm:lora_requests_info{max_lora="},
    {"GET", "/openapi.json", NULL, 200, "\"openapi\":\"3.1.0\""},
    {"GET", "/v1/models", NULL, 200, "\"parent\":null"},
    {"GET", "/v1/models/alpha", NULL, 200, "\"parent\":\"base\""},
    {"GET", "/v1/models/nobody", NULL, 404, "model_not_found"},
    {"GET", "/v1/model", NULL, 200, "\"architecture\":\"Fake\""},
    {"GET", "/props", NULL, 200, "\"vocab\":32000"},
    {"GET", "/nothing", NULL, 404, "route_not_found"},
    {"PUT", "/health", NULL, 405, "Allow: GET, HEAD"},
    {"OPTIONS", "/v1/merge", NULL, 204, "Allow: POST, GET, HEAD, OPTIONS"},
    {"POST", "/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":2,\"n\":2}", 200,
     "\"text\":\"t0 t1 \""},
    {"POST", "/v1/completions",
     "{\"prompt\":[1,2],\"max_tokens\":1,\"logprobs\":2,\"return_token_ids\":true}", 200,
     "\"logprobs\":{\"tokens\":[\"t0 \"],\"token_logprobs\":[-0.25],\"top_logprobs\":[{\"t0 \":-"
     "0.25,\"b\":-1.5}],\"text_offset\":[0]},\"finish_reason\":\"length\",\"token_ids\":[0]}"},
    {"POST", "/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":2,\"stream\":true}", 200,
     "data: [DONE]\n\n"},
    {"POST", "/v1/completions",
     "{\"prompt\":\"a\",\"max_tokens\":2,\"stream\":true,\"stream_options\":{\"include_usage\":"
     "true}}",
     200, "\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2"},
    {"POST", "/v1/completions", "{\"prompt\":\"fail\"}", 500, "internal_error"},
    {"POST", "/v1/completions", "{\"prompt\":\"fail\",\"stream\":true}", 500, "internal_error"},
    {"POST", "/v1/completions", "{\"prompt\":\"broken\",\"stream\":true}", 200,
     "event: error\ndata: {\"error\":{"},
    {"POST", "/v1/completions", "{\"prompt\":\"a\",\"model\":\"nobody\"}", 404, "model_not_found"},
    {"POST", "/v1/completions", "{\"prompt\":\"a\",\"adapter\":\"nobody\"}", 404,
     "adapter_not_found"},
    {"POST", "/v1/completions", "{\"prompt\":\"a\",\"model\":\"base:alpha\",\"max_tokens\":1}", 200,
     "x-adapter-id: alpha"},
    {"POST", "/v1/completions", "{\"prompt\":\"a\",\"model\":\"alpha\",\"adapter\":\"beta\"}", 400,
     "invalid_value"},
    {"POST", "/v1/completions", "{\"prompt\":\"a\",\"n\":2,\"best_of\":1}", 400, "less than n"},
    {"POST", "/v1/completions", "{\"prompt\":\"a\",\"best_of\":3,\"stream\":true}", 400,
     "best_of cannot be streamed"},
    {"POST", "/v1/completions", "{\"prompt\":\"a\",\"best_of\":3,\"max_tokens\":2}", 200,
     "\"choices\":[{\"index\":0,\"text\":\"t0 t1 \",\"logprobs\":null,\"finish_reason\":"
     "\"length\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":6,"},
    {"POST", "/v1/completions", "{\"prompt\":\"a\",\"prompt_logprobs\":1,\"stream\":true}", 400,
     "prompt_logprobs cannot be streamed"},
    {"POST", "/v1/completions", "{\"prompt\":", 400, "invalid_json"},
    {"POST", "/v1/completions", "{\"prompt\":\"a\",\"prompt\":\"a\"}", 400, "invalid_json"},
    {"POST", "/v1/forward", "{\"input_ids\":[[1,2]],\"outputs\":[\"embedding\",\"hidden_states\"]}",
     200, "\"hidden_states\":{\"shape\":[2,4],\"datatype\":\"FP32\",\"data\":[0.0,0.142857149,"},
    {"POST", "/v1/forward", "{\"text\":[\"nan\"]}", 500, "row 0: last_logits holds NaN"},
    {"POST", "/v1/forward", "{\"input_ids\":[[1]],\"adapters\":[null,null]}", 400, "invalid_value"},
    {"POST", "/v1/forward",
     "{\"module\":\"linear\",\"input\":{\"shape\":[1,2,4],\"data\":[1,2,3,4,5,6,7,8]}}", 200,
     "{\"output\":{\"shape\":[1,2,3],\"datatype\":\"FP32\",\"data\":[0.0,1.0,2.0,3.0,4.0,5.0]}}"},
    {"POST", "/v1/forward", "{\"module\":\"embed\",\"input\":{\"shape\":[2],\"data\":[1,2]}}", 200,
     "\"shape\":[2,4]"},
    {"POST", "/v1/forward", "{\"module\":\"nope\",\"input\":{\"shape\":[1],\"data\":[1]}}", 400,
     "module_not_found"},
    {"POST", "/v1/embeddings", "{\"input\":[[1,2],[3]],\"normalize\":false}", 200,
     "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":[0.0,"
     "0.142857149,0.285714298,0.428571433]},{\"object\":\"embedding\",\"index\":1,"},
    {"POST", "/v1/embeddings",
     "{\"input\":\"a\",\"encoding_format\":\"base64\",\"model\":\"alpha\"}", 200,
     "\"embedding\":\"AAAAAHfWiD531gg/s0FNPw==\"}],\"model\":\"alpha\",\"usage\":{"},
    {"POST", "/v1/embeddings", "{\"input\":\"a\",\"model\":\"nobody\"}", 404, "model_not_found"},
    {"POST", "/v1/embeddings", "{\"input\":\"a\",\"dimensions\":3}", 501, "have 4 dimensions"},
    {"POST", "/v1/score", "{\"text_1\":\"a\",\"text_2\":[\"b\",\"c\"],\"model\":\"beta\"}", 200,
     "\"model\":\"beta\",\"data\":[{\"object\":\"score\",\"index\":0,\"score\":0.5},{\"object\":"
     "\"score\",\"index\":1,\"score\":0.5}],\"usage\":{\"prompt_tokens\":2,"},
    {"POST", "/v1/score", "{\"text_1\":\"a\",\"text_2\":\"b\",\"model\":\"alpha\"}", 501,
     "this model gives no labels"},
    {"POST", "/v1/score", "{\"text_1\":\"a\",\"text_2\":\"b\"}", 501, "not_supported"},
    {"POST", "/v1/rerank",
     "{\"query\":\"a\",\"documents\":[\"b\",\"c\"],\"top_n\":1,\"adapter\":\"beta\"}", 200,
     "\"results\":[{\"index\":0,\"document\":{\"text\":\"b\"},\"relevance_score\":0.5}],\"usage\":"
     "{"},
    {"POST", "/tokenize", "{\"content\":\"ab\"}", 200, "{\"tokens\":[97,98,1]}"},
    {"POST", "/tokenize", "{\"content\":\"a\",\"with_pieces\":true}", 200,
     "{\"id\":97,\"piece\":\"b\"}"},
    {"POST", "/detokenize", "{\"tokens\":[]}", 200, "{\"content\":\"\"}"},
    {"GET", "/v1/adapters?available=1", NULL, 200, "\"state\":\"available\""},
    {"GET", "/v1/adapters?available=x", NULL, 400, "invalid_value"},
    {"GET", "/v1/adapters/alpha", NULL, 200, "\"cayley\":{\"method\":\"neumann\",\"terms\":5}"},
    {"POST", "/v1/adapters", "{\"name\":\"new\"}", 201, "\"name\":\"new\""},
    {"POST", "/v1/adapters", "{\"name\":\"new\"}", 409, "name_in_use"},
    {"POST", "/v1/adapters", "{\"name\":\"new\",\"replace\":\"always\"}", 200, "\"name\":\"new\""},
    {"POST", "/v1/adapters?wait=false", "{\"name\":\"bg\"}", 202, "\"state\":\"loading\""},
    {"POST", "/v1/adapters", "{\"name\":\"x\",\"path\":\"../x\"}", 422, "path_outside_root"},
    {"POST", "/v1/adapters", "{\"name\":\"x\",\"path\":\"bad\"}", 422,
     "\"code\":\"tensor_missing\",\"details\":{\"findings\":[{\"code\":\"tensor_missing\""},
    {"POST", "/v1/adapters:validate", "{\"name\":\"x\"}", 200, "{\"ok\":false,\"findings\":[{"},
    {"POST", "/v1/adapters:batch", "{\"load\":[{\"name\":\"alpha\"}],\"unload\":[\"q\"]}", 200,
     "\"unloaded\":[\"q\"]"},
    {"POST", "/v1/adapters:batch", "{}", 400, "missing_field"},
    {"DELETE", "/v1/adapters/new?timeout_s=1.5", NULL, 200, "\"bytes\":1234"},
    {"DELETE", "/v1/adapters/new", NULL, 404, "adapter_not_found"},
    {"POST", "/v1/load_lora_adapter", "{\"lora_name\":\"v\",\"lora_path\":\"p\"}", 200,
     "Success: LoRA adapter 'v' added successfully."},
    {"POST", "/v1/load_lora_adapter", "{\"lora_name\":\"v\",\"lora_path\":\"p\"}", 400,
     "has already been loaded"},
    {"POST", "/v1/load_lora_adapter", "{\"lora_name\":\"v\"}", 400, "InvalidUserInput"},
    {"POST", "/v1/unload_lora_adapter", "{\"lora_name\":\"v\"}", 200, "removed successfully."},
    {"POST", "/v1/unload_lora_adapter", "{\"lora_name\":\"v\"}", 404, "cannot be found."},
    {"POST", "/v1/merge", "{\"adapter\":\"alpha\",\"into\":\"float32\"}", 200, "\"rel_fro\":0.01"},
    {"POST", "/v1/merge", "{\"adapter\":\"gptq\"}", 409, "merge_forbidden_gptq"},
    {"GET", "/v1/merge", NULL, 200, "{\"merged\":[{\"adapters\":[\"alpha\"],\"mode\":\"resident\""},
    {"POST", "/v1/unmerge", "", 200, "{\"unmerged\":[\"alpha\"],"},
    {"POST", "/v1/unmerge", "", 409, "not_merged"},
    {"POST", "/v1/unmerge", "{\"adapter\":\"alpha\"}", 409, "not_merged"},
    {"POST", "/v1/export", "{\"path\":\"x\",\"dtype\":\"float16\"}", 200, "\"bytes\":99"},
    {"GET", "/v2", NULL, 200, "\"binary_tensor_data\""},
    {"HEAD", "/", NULL, 200, "Content-Security-Policy: default-src 'none'; script-src 'self';"},
    {"GET", "/page/page.css", NULL, 200, "Content-Type: text/css; charset=utf-8"},
    {"GET", "/page/page.js", NULL, 200, "X-Content-Type-Options: nosniff"},
    {"GET", "/page/mark.svg", NULL, 200, "Referrer-Policy: no-referrer"},
    {"GET", "/page/files.S", NULL, 404, "route_not_found"},
    {"GET", "/page/", NULL, 404, "route_not_found"},
    {"GET", "/v2/models/base", NULL, 200, "\"versions\":[\"1\"]"},
    {"GET", "/v2/models/alpha/ready", NULL, 200, "\"ready\":true"},
    {"GET", "/v2/models/gamma", NULL, 404, "{\"error\":\"there is no model 'gamma'\"}"},
    {"GET", "/v2/models/base/versions/2/ready", NULL, 404, "version 1 serves"},
    {"POST", "/v2/models/base/infer", "{}", 400, "{\"error\":\"inputs is required\"}"},
    {"POST", "/v2/models/base/infer", "{\"inputs\":[" V2_IDS "]}", 200, "\"shape\":[2,32000]"},
    {"POST", "/v2/models/alpha/infer", "{\"inputs\":[" V2_IDS "]}", 200,
     "\"model_name\":\"alpha\""},
    {"POST", "/v2/models/gamma/infer", "{\"inputs\":[" V2_IDS "]}", 404, "no model 'gamma'"},
    {"POST", "/v2/models/base/infer", "{\"inputs\":[" V2_IDS "],\"outputs\":[{\"name\":\"x\"}]}",
     400, "there is no tensor 'x'"},
    {"POST", "/v2/models/alpha/generate", "{\"text_input\":\"x\",\"max_tokens\":2}", 200,
     "\"text_output\":\"t0 t1 \"}"},
    {"POST", "/v2/models/base/generate_stream", "{\"text_input\":\"x\",\"max_tokens\":2}", 200,
     "\"text_output\":\"t1 \"}\n\n"},
    {"POST", "/v2/models/base/generate_stream", "{\"text_input\":\"broken\"}", 200,
     "data: {\"error\":\""},
    {"POST", "/v2/models/base/generate_stream", "{\"text_input\":\"fail\"}", 500, "{\"error\":\""},
    {"POST", "/v2/models/gamma/generate", "{\"text_input\":\"x\"}", 404, "no model 'gamma'"},
    {"POST", "/v2/repository/index", "{}", 200, "\"state\":\"READY\""},
    {"POST", "/v2/repository/models/late/load", "", 200, "\"load\":true"},
    {"POST", "/v2/repository/models/late/unload", "", 200, "\"unload\":true"},
    {"POST", "/v2/repository/models/late/unload", "", 404, "{\"error\":\"there is no adapter"},
    {"POST", "/v2/repository/models/base/load", "", 409, "'base' is the base"},
};
#define N_ROWS (sizeof rows / sizeof rows[0])

START_TEST(test_routes)
{
    for (size_t i = 0; i < N_ROWS; i++) {
        const struct row *r = &rows[i];
        int status;
        char *reply = client_call(port, r->method, r->path, NULL, r->body, &status);
        ck_assert_msg(status == r->status && strstr(reply, r->holds), "%s %s %s: %s", r->method,
                      r->path, r->body, reply);
        free(reply);
    }
    wait_for(live_tickets, 0);
}
END_TEST

/* A list is one merge, in its order; nothing else goes with it. */
START_TEST(test_unmerge_lists)
{
    static const char unmerge[] = "/v1/unmerge", merge[] = "/v1/merge";
    ck_assert_int_eq(post(merge, "{\"adapter\":[\"alpha\",\"beta\"]}", "\"beta\""), 200);
    ck_assert_int_eq(post(merge, "{\"adapter\":\"alpha\"}", "\"alpha\""), 200);
    ck_assert_int_eq(post(unmerge, "{\"adapter\":[\"beta\",\"alpha\"]}", "not_merged"), 409);
    ck_assert_int_eq(
        post(unmerge, "{\"adapter\":[\"alpha\",\"beta\"]}", "{\"unmerged\":[\"alpha\",\"beta\"],"),
        200);
    ck_assert_int_eq(post(unmerge, "{\"adapter\":[\"alpha\",\"beta\"]}", "not_merged"), 409);
    ck_assert_int_eq(post(merge, "{\"adapter\":[\"alpha\",\"beta\"]}", "\"beta\""), 200);
    ck_assert_int_eq(post(merge, "{\"adapter\":\"beta\"}", "\"beta\""), 200);
    ck_assert_int_eq(post(merge, "{\"adapter\":\"alpha\"}", "\"alpha\""), 200);
    ck_assert_int_eq(
        post(unmerge, "{\"adapter\":[\"alpha\",\"beta\"]}", "{\"unmerged\":[\"alpha\",\"beta\"],"),
        200);
    ck_assert_int_eq(post(unmerge, "{\"adapter\":[\"beta\"]}", "{\"unmerged\":[\"beta\"],"), 200);
    ck_assert_int_eq(post(unmerge, "{}", "{\"unmerged\":[\"alpha\""), 200);
}
END_TEST

START_TEST(test_states)
{
    int status;
    fake_engine_set_state(server.engine, ENGINE_LOADING);
    char *reply = client_call(port, "GET", "/health", NULL, NULL, &status);
    ck_assert_int_eq(status, 503);
    ck_assert_ptr_nonnull(strstr(reply, "{\"status\":\"loading\",\"progress\":0.5}"));
    ck_assert_ptr_nonnull(strstr(reply, "Retry-After: 1"));
    free(reply);
    reply = client_call(port, "GET", "/v1/models", NULL, NULL, &status);
    ck_assert_int_eq(status, 503);
    ck_assert_ptr_nonnull(strstr(reply, "not_ready"));
    free(reply);
    fake_engine_set_state(server.engine, ENGINE_DRAINING);
    reply = client_call(port, "POST", "/v1/completions", NULL, "{\"prompt\":\"a\"}", &status);
    ck_assert_int_eq(status, 503);
    ck_assert_ptr_nonnull(strstr(reply, "draining"));
    free(reply);
}
END_TEST

START_TEST(test_large_reply)
{
    int status;
    char *reply =
        client_call(port, "POST", "/v1/forward", NULL,
                    "{\"input_ids\":[[1,2,3,4,5,6,7,8]],\"outputs\":[\"logits\"]}", &status);
    ck_assert_int_eq(status, 200);
    size_t commas = 0;
    for (const char *p = reply; *p; p++)
        commas += *p == ',';
    ck_assert_uint_gt(commas, 8 * VOCAB);
    ck_assert_ptr_nonnull(strstr(reply, "\"usage\":{\"prompt_tokens\":8}}"));
    free(reply);
}
END_TEST

/* ---- connections ---- */

#define STREAM(tokens) "{\"prompt\":\"a\",\"stream\":true,\"max_tokens\":" tokens "}"

static int threads_of_this_process(void)
{
    char line[128];
    int n = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, f))
        sscanf(line, "Threads: %d", &n);
    fclose(f);
    return n;
}

START_TEST(test_many_streams)
{
    enum { COUNT = 2000 };
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int count = limit.rlim_cur < 2 * COUNT + 100 ? (int)(limit.rlim_cur - 100) / 2 : COUNT;
    start_with(200000, &usual);
    int *fds = calloc((size_t)count, sizeof *fds), before = threads_of_this_process();
    for (int i = 0; i < count; i++) {
        fds[i] = client_connect(port);
        ck_assert_int_ge(fds[i], 0);
        client_send(fds[i], "POST", "/v1/completions", NULL, STREAM("100000"));
    }
    wait_for(live_tickets, count);
    ck_assert_int_eq(threads_of_this_process(), before);
    int status;
    free(client_call(port, "GET", "/health", NULL, NULL, &status));
    ck_assert_int_eq(status, 200);
    for (int i = 0; i < count; i++)
        close(fds[i]);
    free(fds);
    wait_for(live_tickets, 0);
    stop();
}
END_TEST

START_TEST(test_hangup_cancels)
{
    const char *bodies[] = {STREAM("100000"), "{\"prompt\":\"a\",\"max_tokens\":100000}"};
    for (int i = 0; i < 2; i++) {
        int fd = client_connect(port);
        client_send(fd, "POST", "/v1/completions", NULL, bodies[i]);
        wait_for(live_tickets, 1);
        usleep(20000);
        close(fd);
        wait_for(live_tickets, 0);
    }
    struct fake_counts c;
    fake_engine_counts(server.engine, &c);
    ck_assert_int_eq(c.cancelled, 2);
}
END_TEST

/* Its socket is full after a while; nobody else waits for it, and the write time-out ends it. */
START_TEST(test_slow_reader)
{
    int fd = client_connect(port), small = 2048, status;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    client_send(fd, "POST", "/v1/forward", NULL,
                "{\"input_ids\":[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,8]],"
                "\"outputs\":[\"logits\",\"logprobs\"]}");
    wait_for(live_tickets, 1);
    for (int i = 0; i < 20; i++) {
        free(client_call(port, "POST", "/v1/completions", NULL,
                         "{\"prompt\":\"a\",\"max_tokens\":2}", &status));
        ck_assert_int_eq(status, 200);
    }
    wait_for(live_tickets, 0);
    close(fd);
}
END_TEST

START_TEST(test_stop_with_streams)
{
    int fds[20];
    for (int i = 0; i < 20; i++) {
        fds[i] = client_connect(port);
        client_send(fds[i], "POST", "/v1/completions", NULL, STREAM("100000"));
    }
    wait_for(live_tickets, 20);
    stop();
    for (int i = 0; i < 20; i++) {
        char *reply = client_read(fds[i]);
        ck_assert_ptr_nonnull(strstr(reply, "\"code\":\"cancelled\""));
        ck_assert_ptr_null(strstr(reply, "[DONE]"));
        free(reply);
        close(fds[i]);
    }
}
END_TEST

START_TEST(test_addresses)
{
    static const char *const bad[] = {
        "",        "8080",   "localhost", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:x",
        "[::1:80", "::1:80", "unix:",     "256.1.1.1:1"};
    struct server none = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct http_options o = usual;
        struct http *h;
        struct error err = ERROR_INIT;
        o.listen = bad[i];
        ck_assert_msg(http_start(&o, &none, &h, &err) != ST_OK, "%s", bad[i]);
        ck_assert_ptr_null(h);
        ck_assert_msg(strstr(err.text, bad[i]) != NULL, "%s", err.text);
    }
}
END_TEST

/* ---- failure ---- */

/* Whatever fails, the server answers or cuts that one connection, and goes on. */
START_TEST(test_memory)
{
    static const size_t some[] = {5,  7,  15, 16, 17, 28, 32, 34, 36, 43,
                                  44, 46, 51, 52, 57, 59, 60, 63, 68};
    for (size_t k = 0; k < sizeof some / sizeof some[0]; k++) {
        const struct row *r = &rows[some[k]];
        fail_each(NULL, r->method, r->path, r->body, 400);
    }
    wait_for(live_tickets, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("server/http");
    TCase *t = tcase_create("served");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, start, stop);
    tcase_add_test(t, test_routes);
    tcase_add_test(t, test_unmerge_lists);
    tcase_add_test(t, test_states);
    tcase_add_test(t, test_large_reply);
    tcase_add_test(t, test_hangup_cancels);
    tcase_add_test(t, test_slow_reader);
    suite_add_tcase(s, t);
    t = tcase_create("alone");
    tcase_set_timeout(t, 90);
    tcase_add_test(t, test_many_streams);
    tcase_add_test(t, test_addresses);
    suite_add_tcase(s, t);
    t = tcase_create("stopped");
    tcase_add_checked_fixture(t, start, NULL);
    tcase_add_test(t, test_stop_with_streams);
    suite_add_tcase(s, t);
    t = tcase_create("failing");
    tcase_set_timeout(t, 90);
    tcase_add_checked_fixture(t, start, stop);
    tcase_add_test(t, test_memory);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)

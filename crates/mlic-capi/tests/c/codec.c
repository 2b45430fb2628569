/* Uses every function of mlic.h as its comments say, and misuses it. Prints each check that fails, and exits with 1 if there is any. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mlic.h"

enum { WIDTH = 100, HEIGHT = 70, GAP = 5, STRIDE = 3 * WIDTH + GAP };

static int failures = 0;

#define CHECK(condition)                                                                                  \
    do {                                                                                                  \
        if (!(condition)) {                                                                               \
            printf("%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, mlic_last_error());                \
            failures++;                                                                                   \
        }                                                                                                 \
    } while (0)

struct steps {
    int stages;
    int passes;
    int ends_at;
};

static int32_t step(void *user, const char *stage, uint32_t pass, uint32_t pass_count) {
    struct steps *steps = user;
    if (strlen(stage) == 0 || pass > pass_count) failures++;
    if (pass_count == 0) steps->stages++;
    else steps->passes++;
    return steps->stages + steps->passes == steps->ends_at;
}

static int within(const uint8_t *a, const uint8_t *b, size_t stride_a, size_t stride_b, int channels, int most) {
    for (int row = 0; row < HEIGHT; row++)
        for (int i = 0; i < channels * WIDTH; i++)
            if (abs(a[row * stride_a + i] - b[row * stride_b + i]) > most) return 0;
    return 1;
}

static void colour(const mlic_codec *codec) {
    static uint8_t samples[HEIGHT * STRIDE], decoded[HEIGHT * STRIDE], again[HEIGHT * 3 * WIDTH];
    const uint8_t icc[] = "not really a profile";
    for (int row = 0; row < HEIGHT; row++)
        for (int i = 0; i < 3 * WIDTH; i++) samples[row * STRIDE + i] = (uint8_t)(40 + row + i / 3 + 20 * (i % 3));

    mlic_picture picture = {WIDTH, HEIGHT, 3, STRIDE, samples, icc, sizeof icc, NULL, 0, NULL, 0};
    mlic_bytes stream = {NULL, 0};
    struct steps steps = {0, 0, -1};
    mlic_watch watch = {step, &steps};
    CHECK(mlic_encode(codec, &picture, 90, &watch, &stream) == MLIC_OK);
    CHECK(stream.len > sizeof icc && steps.stages > 3 && steps.passes > 1);

    mlic_header header;
    CHECK(mlic_read_header(stream.data, 32, &header) == MLIC_OK);
    CHECK(header.width == WIDTH && header.height == HEIGHT && header.channels == 3 && header.quality_index > 0);
    CHECK(header.quality_index <= mlic_codec_quality_steps(codec));
    CHECK(strlen(header.model_id) == 12 && strcmp(header.model_id, mlic_codec_model_id(codec)) == 0);

    const uint8_t *found = NULL;
    size_t found_len = 0;
    CHECK(mlic_find_metadata(stream.data, stream.len, MLIC_ICC, &found, &found_len) == MLIC_OK);
    CHECK(found_len == sizeof icc && found > stream.data && memcmp(found, icc, sizeof icc) == 0);
    CHECK(mlic_find_metadata(stream.data, stream.len, MLIC_XMP, &found, &found_len) == MLIC_OK);
    CHECK(found == NULL && found_len == 0);
    CHECK(mlic_find_metadata(stream.data, stream.len, 4, &found, &found_len) == MLIC_USAGE);

    mlic_canvas canvas = {WIDTH, HEIGHT, 3, STRIDE, decoded};
    mlic_outcome outcome;
    memset(decoded, 0xa5, sizeof decoded);
    CHECK(mlic_decode(codec, stream.data, stream.len, NULL, &canvas, &outcome) == MLIC_OK);
    CHECK(outcome.has_picture == 1 && outcome.slice_count > 0 && outcome.whole_slices == outcome.slice_count);
    CHECK(within(samples, decoded, STRIDE, STRIDE, 3, 40));
    for (int row = 0; row < HEIGHT; row++)
        for (int i = 3 * WIDTH; i < STRIDE; i++) CHECK(decoded[row * STRIDE + i] == 0xa5);
    mlic_canvas dense = {WIDTH, HEIGHT, 3, 3 * WIDTH, again};
    CHECK(mlic_decode(codec, stream.data, stream.len, NULL, &dense, NULL) == MLIC_OK);
    CHECK(within(again, decoded, 3 * WIDTH, STRIDE, 3, 0));

    /* Canvases that do not suit this picture. */
    mlic_canvas wrong = {WIDTH, HEIGHT + 1, 3, STRIDE, decoded};
    CHECK(mlic_decode(codec, stream.data, stream.len, NULL, &wrong, &outcome) == MLIC_USAGE && outcome.has_picture == 0);
    CHECK(strstr(mlic_last_error(), "100 x 71") != NULL);
    wrong = (mlic_canvas){WIDTH, HEIGHT, 1, STRIDE, decoded};
    CHECK(mlic_decode(codec, stream.data, stream.len, NULL, &wrong, NULL) == MLIC_USAGE);
    wrong = (mlic_canvas){WIDTH, HEIGHT, 3, 3 * WIDTH - 1, decoded};
    CHECK(mlic_decode(codec, stream.data, stream.len, NULL, &wrong, NULL) == MLIC_USAGE);
    wrong = (mlic_canvas){WIDTH, HEIGHT, 3, SIZE_MAX / 2, decoded};
    CHECK(mlic_decode(codec, stream.data, stream.len, NULL, &wrong, NULL) == MLIC_USAGE);
    wrong = (mlic_canvas){WIDTH, HEIGHT, 3, STRIDE, NULL};
    CHECK(mlic_decode(codec, stream.data, stream.len, NULL, &wrong, NULL) == MLIC_USAGE);

    /* Streams that are not whole. */
    size_t payload_end = stream.len - sizeof icc - 16;
    CHECK(mlic_decode(codec, stream.data, payload_end * 3 / 4, NULL, &canvas, &outcome) == MLIC_TRUNCATED);
    CHECK(outcome.has_picture == 1 && outcome.whole_slices < outcome.slice_count);
    CHECK(mlic_decode(codec, stream.data, 33, NULL, &canvas, &outcome) == MLIC_TRUNCATED && outcome.has_picture == 0);
    stream.data[payload_end / 2] ^= 1;
    CHECK(mlic_decode(codec, stream.data, stream.len, NULL, &canvas, &outcome) == MLIC_DAMAGED && outcome.has_picture == 0);
    stream.data[payload_end / 2] ^= 1;
    stream.data[0] ^= 1;
    CHECK(mlic_read_header(stream.data, stream.len, &header) == MLIC_NOT_A_STREAM);
    stream.data[0] ^= 1;
    CHECK(mlic_read_header(stream.data, 0, &header) != MLIC_OK);

    /* Calls that are cancelled, at each of their steps; the codec stays usable. */
    int step_count = 0;
    for (;; step_count++) {
        struct steps until = {0, 0, step_count + 1};
        mlic_watch ending = {step, &until};
        mlic_status status = mlic_decode(codec, stream.data, stream.len, &ending, &canvas, NULL);
        if (status == MLIC_OK) break;
        CHECK(status == MLIC_CANCELLED);
        if (status != MLIC_CANCELLED) break;
    }
    CHECK(step_count > 4);

    mlic_bytes_free(&stream);
    CHECK(stream.data == NULL && stream.len == 0);
    mlic_bytes_free(&stream);

    /* Invalid pictures. */
    CHECK(mlic_encode(codec, &picture, 100.5f, NULL, &stream) == MLIC_USAGE && stream.data == NULL);
    picture.width = 0;
    CHECK(mlic_encode(codec, &picture, 50, NULL, &stream) == MLIC_PICTURE);
    picture.width = WIDTH;
    picture.channels = 4;
    CHECK(mlic_encode(codec, &picture, 50, NULL, &stream) == MLIC_USAGE);
    picture.channels = 3;
    picture.icc = NULL;
    CHECK(mlic_encode(codec, &picture, 50, NULL, &stream) == MLIC_USAGE);
    CHECK(strstr(mlic_last_error(), "icc") != NULL);
}

static void gray(const mlic_codec *codec) {
    static uint8_t samples[HEIGHT * WIDTH], one[HEIGHT * WIDTH], three[HEIGHT * 3 * WIDTH];
    for (int i = 0; i < HEIGHT * WIDTH; i++) samples[i] = (uint8_t)(60 + i / WIDTH + i % WIDTH);
    mlic_picture picture = {WIDTH, HEIGHT, 1, WIDTH, samples, NULL, 0, NULL, 0, NULL, 0};
    mlic_bytes stream;
    mlic_header header;
    CHECK(mlic_encode(codec, &picture, 80, NULL, &stream) == MLIC_OK);
    CHECK(mlic_read_header(stream.data, stream.len, &header) == MLIC_OK && header.channels == 1);
    mlic_canvas canvas = {WIDTH, HEIGHT, 1, WIDTH, one};
    CHECK(mlic_decode(codec, stream.data, stream.len, NULL, &canvas, NULL) == MLIC_OK);
    CHECK(within(samples, one, WIDTH, WIDTH, 1, 30));
    canvas = (mlic_canvas){WIDTH, HEIGHT, 3, 3 * WIDTH, three};
    CHECK(mlic_decode(codec, stream.data, stream.len, NULL, &canvas, NULL) == MLIC_OK);
    for (int i = 0; i < HEIGHT * 3 * WIDTH; i++) CHECK(three[i] == one[i / 3]);
    mlic_bytes_free(&stream);
}

static void within_a_size(const mlic_codec *codec) {
    static uint8_t samples[HEIGHT * WIDTH];
    for (int i = 0; i < HEIGHT * WIDTH; i++) samples[i] = (uint8_t)(60 + i / WIDTH + i % WIDTH);
    mlic_picture picture = {WIDTH, HEIGHT, 1, WIDTH, samples, NULL, 0, NULL, 0, NULL, 0};
    mlic_bytes stream, found;
    mlic_header header;
    CHECK(mlic_encode(codec, &picture, 80, NULL, &stream) == MLIC_OK);
    size_t len = stream.len;
    CHECK(mlic_encode_within(codec, &picture, len, NULL, &found) == MLIC_OK && found.len <= len);
    CHECK(mlic_read_header(found.data, found.len, &header) == MLIC_OK);
    CHECK(100 * header.quality_index >= 80 * mlic_codec_quality_steps(codec));
    mlic_bytes_free(&found);
    CHECK(mlic_encode_within(codec, &picture, len - 1, NULL, &found) == MLIC_OK && found.len < len);
    mlic_bytes_free(&found);
    CHECK(mlic_encode_within(codec, &picture, 1, NULL, &found) == MLIC_BUDGET && found.data == NULL);
    CHECK(strstr(mlic_last_error(), "at most 1 are wanted") != NULL);
    CHECK(mlic_encode_within(codec, &picture, len, NULL, NULL) == MLIC_USAGE);
    mlic_bytes_free(&stream);
}

static void nulls(const mlic_codec *codec) {
    uint8_t byte = 0;
    const uint8_t *data;
    size_t len;
    mlic_bytes stream;
    mlic_header header;
    mlic_picture picture = {1, 1, 1, 1, NULL, NULL, 0, NULL, 0, NULL, 0};
    mlic_canvas canvas = {1, 1, 1, 1, &byte};
    CHECK(mlic_codec_create(NULL, NULL) == MLIC_USAGE);
    CHECK(mlic_encode(NULL, &picture, 50, NULL, &stream) == MLIC_USAGE);
    CHECK(mlic_encode(codec, NULL, 50, NULL, &stream) == MLIC_USAGE);
    CHECK(mlic_encode(codec, &picture, 50, NULL, &stream) == MLIC_USAGE);
    CHECK(mlic_encode(codec, &picture, 50, NULL, NULL) == MLIC_USAGE);
    CHECK(mlic_decode(NULL, &byte, 1, NULL, &canvas, NULL) == MLIC_USAGE);
    CHECK(mlic_decode(codec, NULL, 1, NULL, &canvas, NULL) == MLIC_USAGE);
    CHECK(mlic_decode(codec, &byte, 1, NULL, NULL, NULL) == MLIC_USAGE);
    CHECK(mlic_decode(codec, &byte, SIZE_MAX, NULL, &canvas, NULL) == MLIC_USAGE);
    CHECK(mlic_read_header(NULL, 1, &header) == MLIC_USAGE);
    CHECK(mlic_read_header(&byte, 1, NULL) == MLIC_USAGE);
    CHECK(mlic_find_metadata(&byte, 1, MLIC_ICC, NULL, &len) == MLIC_USAGE);
    CHECK(mlic_find_metadata(&byte, 1, MLIC_ICC, &data, NULL) == MLIC_USAGE);
    CHECK(mlic_codec_model_id(NULL) == NULL);
    CHECK(mlic_codec_quality_steps(NULL) == 0);
    mlic_codec_destroy(NULL);
    mlic_bytes_free(NULL);
    mlic_options_init(NULL, sizeof(mlic_options));
}

static void options(const char *no_model) {
    mlic_options options;
    mlic_codec *codec = NULL;
    memset(&options, 0x5a, sizeof options);
    mlic_options_init(&options, sizeof options);
    CHECK(options.struct_size == sizeof options && options.max_pixels == 1u << 26 && options.threads == 0);
    options.struct_size -= sizeof(uint64_t);
    CHECK(mlic_codec_create(&options, &codec) == MLIC_USAGE && codec == NULL);

    /* Options of a program that knows fewer members than the library, and of one that knows more. */
    memset(&options, 0x5a, sizeof options);
    mlic_options_init(&options, offsetof(mlic_options, max_milliseconds));
    CHECK(options.struct_size == offsetof(mlic_options, max_milliseconds) && options.max_memory_bytes == (uint64_t)16 << 30);
    CHECK(options.max_milliseconds == 0x5a5a5a5a5a5a5a5a && options.effort == 0x5a5a5a5a);
    struct {
        mlic_options known;
        uint64_t unknown[2];
    } newer;
    memset(&newer, 0x5a, sizeof newer);
    mlic_options_init(&newer.known, sizeof newer);
    CHECK(newer.known.struct_size == sizeof newer && newer.unknown[1] == 0);
    newer.known.effort = 256;
    CHECK(mlic_codec_create(&newer.known, &codec) == MLIC_USAGE && strstr(mlic_last_error(), "effort 256") != NULL);
    newer.unknown[1] = 1;
    CHECK(mlic_codec_create(&newer.known, &codec) == MLIC_USAGE && strstr(mlic_last_error(), "this library knows") != NULL);
    mlic_options_init(&options, sizeof options);
    options.threads = 257;
    CHECK(mlic_codec_create(&options, &codec) == MLIC_USAGE);
    mlic_options_init(&options, sizeof options);
    options.effort = 256;
    CHECK(mlic_codec_create(&options, &codec) == MLIC_USAGE);
    mlic_options_init(&options, sizeof options);
    options.rounding = 2;
    CHECK(mlic_codec_create(&options, &codec) == MLIC_USAGE && strstr(mlic_last_error(), "rounding 2") != NULL);
    mlic_options_init(&options, sizeof options);
    options.reserved = 1;
    CHECK(mlic_codec_create(&options, &codec) == MLIC_USAGE && strstr(mlic_last_error(), "reserved") != NULL);
    mlic_options_init(&options, sizeof options);
    options.backend = "abacus";
    CHECK(mlic_codec_create(&options, &codec) == MLIC_BACKEND && strstr(mlic_last_error(), "abacus") != NULL);
    mlic_options_init(&options, sizeof options);
    options.model_path = no_model;
    CHECK(mlic_codec_create(&options, &codec) == MLIC_MODEL && codec == NULL);

    /* Backend, limits, effort and rounding reach the codec. */
    static uint8_t samples[64 * 64];
    mlic_picture picture = {64, 64, 1, 64, samples, NULL, 0, NULL, 0, NULL, 0};
    mlic_canvas canvas = {64, 64, 1, 64, samples};
    mlic_bytes stream, refined;
    for (int i = 0; i < 64 * 64; i++) samples[i] = (uint8_t)(i / 64 * (i % 64) / 16);
    mlic_options_init(&options, sizeof options);
    options.backend = "integer";
    options.threads = 1;
    options.max_pixels = 1;
    CHECK(mlic_codec_create(&options, &codec) == MLIC_OK);
    CHECK(mlic_encode(codec, &picture, 50, NULL, &stream) == MLIC_OK);
    CHECK(mlic_decode(codec, stream.data, stream.len, NULL, &canvas, NULL) == MLIC_BUDGET);
    mlic_codec_destroy(codec);
    mlic_options_init(&options, sizeof options);
    options.max_memory_bytes = 1;
    CHECK(mlic_codec_create(&options, &codec) == MLIC_OK);
    CHECK(mlic_decode(codec, stream.data, stream.len, NULL, &canvas, NULL) == MLIC_BUDGET);
    mlic_codec_destroy(codec);
    mlic_options_init(&options, sizeof options);
    options.max_milliseconds = 1;
    CHECK(mlic_codec_create(&options, &codec) == MLIC_OK);
    CHECK(mlic_decode(codec, stream.data, stream.len, NULL, &canvas, NULL) == MLIC_BUDGET);
    mlic_codec_destroy(codec);
    mlic_options_init(&options, sizeof options);
    options.effort = 1;
    CHECK(mlic_codec_create(&options, &codec) == MLIC_OK);
    CHECK(mlic_encode(codec, &picture, 50, NULL, &refined) == MLIC_OK);
    CHECK(refined.len != stream.len || memcmp(refined.data, stream.data, stream.len) != 0);
    mlic_codec_destroy(codec);
    mlic_options_init(&options, sizeof options);
    options.rounding = MLIC_NEAREST;
    mlic_bytes near;
    CHECK(mlic_codec_create(&options, &codec) == MLIC_OK);
    CHECK(mlic_encode(codec, &picture, 50, NULL, &near) == MLIC_OK);
    CHECK(near.len != stream.len || memcmp(near.data, stream.data, stream.len) != 0);
    mlic_codec_destroy(codec);
    mlic_bytes_free(&near);
    mlic_bytes_free(&stream);
    mlic_bytes_free(&refined);
}

int main(void) {
    mlic_codec *codec = NULL;
    CHECK(mlic_abi() == MLIC_ABI);
    CHECK(strlen(mlic_version()) >= 5);
    CHECK(strcmp(mlic_last_error(), "") == 0);
    CHECK(mlic_codec_create(NULL, &codec) == MLIC_OK);
    if (codec == NULL) return 1;
    colour(codec);
    gray(codec);
    within_a_size(codec);
    nulls(codec);
    options(__FILE__);
    mlic_codec_destroy(codec);
    return failures != 0;
}

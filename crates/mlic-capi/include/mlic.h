/*
 * MLIC++ as a codec: pictures to streams and back, in memory.
 *
 * A stream decodes to the same samples on every machine (docs/SPEC.md). Nothing here keeps state but the codec, which threads may share:
 * their calls run at once, on the codec's own threads. A call returns a status; mlic_last_error() says more. Memory that a call is given stays the
 * caller's, and nothing of it is kept after the call.
 *
 * Link with libmlic_c.so, or with libmlic_c.a and -lpthread -ldl -lm.
 */
#ifndef MLIC_H
#define MLIC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of this header. A library with another number has other structures or functions. */
#define MLIC_ABI 1u
/* That of the library. */
uint32_t mlic_abi(void);
/* Its version, as "0.1.0". */
const char *mlic_version(void);

/* What became of a call: the exit codes of the program mlic, as far as they are these. */
typedef int32_t mlic_status;
#define MLIC_OK 0
/* Any other failure. */
#define MLIC_OTHER 1
/* An argument that cannot be meant: a null pointer, a quality of 101, a canvas of another size than the picture. */
#define MLIC_USAGE 2
/* A picture that cannot be coded. */
#define MLIC_PICTURE 3
/* Not a stream, or of a version that is not supported. */
#define MLIC_NOT_A_STREAM 4
/* A damaged stream: a checksum, a forbidden value, a desync. */
#define MLIC_DAMAGED 5
/* A truncated stream. mlic_outcome says whether there is a picture all the same. */
#define MLIC_TRUNCATED 6
/* A stream for another model. */
#define MLIC_WRONG_MODEL 7
/* A model package that is refused. */
#define MLIC_MODEL 8
/* A backend that is not available. */
#define MLIC_BACKEND 10
/* More pixels, memory, time or bytes than allowed, or more memory than there is. */
#define MLIC_BUDGET 11
/* Ended by mlic_watch. */
#define MLIC_CANCELLED 12

/* What was wrong with the last call of this thread that failed, one line of UTF-8; valid until its next failure, "" before the first. */
const char *mlic_last_error(void);

/* An encoder and decoder with its model. */
typedef struct mlic_codec mlic_codec;

/* Roundings: to the symbol next to the nearest, toward zero, where the bits saved are worth more than the error; to the nearest, for larger streams and better
 * pictures. */
#define MLIC_RATE_DISTORTION 0
#define MLIC_NEAREST 1

/* How a codec runs. mlic_options_init() sets every member to what is said here in brackets. Later libraries may add members at the end, with the same
 * MLIC_ABI: a program's struct_size says which it knows. What it lacks is as in brackets; of a longer one than the library's the rest must be zero. */
typedef struct mlic_options {
    size_t struct_size;        /* sizeof(mlic_options), as the program is compiled */
    const char *model_path;    /* a model package [null: the one that is part of the library, or installed beside the program] */
    const char *backend;       /* auto, cuda, tract, integer or reference [null: auto]; one asked for by name is never replaced */
    uint64_t max_pixels;       /* of a picture that is decoded [2^26] */
    uint64_t max_memory_bytes; /* beside model, stream and picture [16 GiB] */
    uint64_t max_milliseconds; /* of a call; looked at between passes [0: none] */
    uint32_t threads;          /* at most 256; no result depends on it [0: one for each core] */
    uint32_t effort;           /* rounds of refinement in encoding, at most 255 [0] */
    uint32_t rounding;         /* of latents in encoding: MLIC_RATE_DISTORTION or MLIC_NEAREST [MLIC_RATE_DISTORTION] */
    uint32_t reserved;         /* [0] */
} mlic_options;

/* mlic_options_init(&options, sizeof options): writes as many bytes and no more; those that the library does not know are zero. Does nothing with null. */
void mlic_options_init(mlic_options *options, size_t struct_size);

/* Makes a codec, which reads and verifies a model; null options are the default ones. *codec is null where it fails. On the backend cuda this and
 * all calls of the codec make the device's primary context the current one of their thread, as the CUDA runtime does. */
mlic_status mlic_codec_create(const mlic_options *options, mlic_codec **codec);
/* Ends a codec, or does nothing with null. No call may be using it. Its threads end by themselves, a little later: the library stays loaded. */
void mlic_codec_destroy(mlic_codec *codec);
/* The id of its model, 12 hexadecimal digits: as long as the codec. Null of null. */
const char *mlic_codec_model_id(const mlic_codec *codec);
/* What a quality of 100 is as a quality_index of its streams, and so 100 / that is a step; 0 if the model has one quality only, and of null. */
uint32_t mlic_codec_quality_steps(const mlic_codec *codec);

/* Called at each step of a call, from some thread of the codec or the caller's, one at a time: anything but 0 ends the call with MLIC_CANCELLED.
 * When a stage begins, pass_count is 0; when a pass is done, `pass` counts them from 1. A pass or stage that runs is not interrupted.
 * `step` returns: no exception and no longjmp leaves it. */
typedef struct mlic_watch {
    int32_t (*step)(void *user, const char *stage, uint32_t pass, uint32_t pass_count);
    void *user;
} mlic_watch;

/* A picture to encode: 8 bits a sample, interleaved. */
typedef struct mlic_picture {
    uint32_t width;
    uint32_t height;
    uint32_t channels;      /* 3: R G B; 1: gray */
    size_t stride_bytes;    /* from one row to the next, at least width * channels */
    const uint8_t *samples; /* height rows */
    const uint8_t *icc;     /* profile, or null */
    size_t icc_len;
    const uint8_t *exif;    /* from its TIFF header on, or null */
    size_t exif_len;
    const uint8_t *xmp;     /* packet, or null */
    size_t xmp_len;
} mlic_picture;

/* Bytes that the library has made: to be given back with mlic_bytes_free(). */
typedef struct mlic_bytes {
    uint8_t *data;
    size_t len;
} mlic_bytes;

/* Gives them back and sets both members to zero. Does nothing with null, or with bytes that were given back. */
void mlic_bytes_free(mlic_bytes *bytes);

/* Encodes a picture at a quality of 0 to 100. `watch` may be null. *stream is empty where it fails. */
mlic_status mlic_encode(const mlic_codec *codec, const mlic_picture *picture, float quality, const mlic_watch *watch, mlic_bytes *stream);

/* The same at the highest quality whose stream has at most so many bytes, metadata included; about eight are tried. MLIC_BUDGET if there is none.
 * Passes are counted anew at each quality. */
mlic_status mlic_encode_within(const mlic_codec *codec, const mlic_picture *picture, uint64_t limit_bytes, const mlic_watch *watch,
                               mlic_bytes *stream);

/* What a stream says of itself; its header has a checksum of its own. */
typedef struct mlic_header {
    uint32_t width;
    uint32_t height;
    uint32_t channels;      /* 3: R G B; 1: gray */
    uint32_t quality_index; /* 0 to mlic_codec_quality_steps() of its model */
    char model_id[16];      /* 12 hexadecimal digits */
} mlic_header;

/* Reads the header of a stream, of which the first 32 bytes will do. */
mlic_status mlic_read_header(const uint8_t *stream, size_t stream_len, mlic_header *header);

/* Where a decoded picture goes. */
typedef struct mlic_canvas {
    uint32_t width;      /* that of the stream */
    uint32_t height;     /* that of the stream */
    uint32_t channels;   /* 3, also of a gray picture, or 1 if the stream is gray */
    size_t stride_bytes; /* from one row to the next, at least width * channels; what is between rows is left alone */
    uint8_t *samples;    /* height rows, which need not be initialized */
} mlic_canvas;

/* How far a stream went. */
typedef struct mlic_outcome {
    int32_t has_picture;   /* 1 if the canvas was written, else 0 and it was not touched */
    uint32_t whole_slices; /* latent slices whose symbols are all there */
    uint32_t slice_count;  /* latent slices of the model */
} mlic_outcome;

/* Decodes a stream onto a canvas. `watch` and `outcome` may be null. Of a truncated stream (MLIC_TRUNCATED) the picture is made of the slices that are
 * whole, if z is; damage in what is there of it shows as a wrong picture, since checksums are of whole streams. Metadata is not looked at. */
mlic_status mlic_decode(const mlic_codec *codec, const uint8_t *stream, size_t stream_len, const mlic_watch *watch,
                        const mlic_canvas *canvas, mlic_outcome *outcome);

/* Metadata that a stream may have. */
#define MLIC_ICC 1u
#define MLIC_EXIF 2u
#define MLIC_XMP 3u

/* Where in a stream metadata of a kind begins and how long it is: a pointer into `stream`, or null if it has none of that kind. */
mlic_status mlic_find_metadata(const uint8_t *stream, size_t stream_len, uint32_t kind, const uint8_t **data, size_t *len);

#ifdef __cplusplus
}
#endif
#endif

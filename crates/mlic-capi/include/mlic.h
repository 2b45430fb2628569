/*
 * MLIC++ as a codec: pictures to streams and back, in memory.
 *
 * A stream decodes to the same samples on every machine (docs/SPEC.md). Only codecs and each thread's last error are state. Threads may share a codec:
 * their calls run concurrently, on the codec's own threads. A call returns a status; mlic_last_error() says more. Memory passed to a call remains the
 * caller's, and the library keeps no reference to it after the call.
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

/* Number of the interface that this header declares. A library with another number has other structures or functions. */
#define MLIC_ABI 1u
/* The interface number of the library. */
uint32_t mlic_abi(void);
/* The version of the library, such as "0.1.0". */
const char *mlic_version(void);

/* Result of a call. All but MLIC_CANCELLED are also exit codes of the program mlic. */
typedef int32_t mlic_status;
#define MLIC_OK 0
/* Any other failure. */
#define MLIC_OTHER 1
/* An argument that makes no sense: a null pointer, a quality of 101, a canvas of another size than the picture. */
#define MLIC_USAGE 2
/* A picture that cannot be coded. */
#define MLIC_PICTURE 3
/* Not a stream, or a stream of a version that is not supported. */
#define MLIC_NOT_A_STREAM 4
/* A damaged stream: a checksum, a forbidden value, a desync. */
#define MLIC_DAMAGED 5
/* A truncated stream. mlic_outcome says whether there is a picture nevertheless. */
#define MLIC_TRUNCATED 6
/* A stream for another model. */
#define MLIC_WRONG_MODEL 7
/* A model package that is refused. */
#define MLIC_MODEL 8
/* A backend that is not available. */
#define MLIC_BACKEND 10
/* More pixels, memory, time or bytes than allowed, or more memory than is available. */
#define MLIC_BUDGET 11
/* Ended by mlic_watch. */
#define MLIC_CANCELLED 12

/* Why the last failed call of this thread failed: one line of UTF-8, valid until the thread's next failure; "" before the first. */
const char *mlic_last_error(void);

/* An encoder and decoder, with the model that they use. */
typedef struct mlic_codec mlic_codec;

/* Roundings of latents. MLIC_RATE_DISTORTION: to the nearest symbol, or to the next one toward zero where the bits saved are worth more than the error.
 * MLIC_NEAREST: always to the nearest, for larger streams and better pictures. */
#define MLIC_RATE_DISTORTION 0
#define MLIC_NEAREST 1

/* Options of a codec. mlic_options_init() sets every member to the default given here in brackets. Later libraries may add members at the end without a new
 * MLIC_ABI: struct_size says which members the program knows. Members that the program lacks have their defaults; bytes beyond those that the library
 * knows must be zero. */
typedef struct mlic_options {
    size_t struct_size;        /* sizeof(mlic_options), as the program was compiled */
    const char *model_path;    /* path of a model package [null: the model that is part of the library, or installed beside the program] */
    const char *backend;       /* auto, cuda, tract, integer or reference [null: auto]; one requested by name is never replaced by another */
    uint64_t max_pixels;       /* most pixels of a picture that is decoded [2^26] */
    uint64_t max_memory_bytes; /* most memory besides model, stream and picture [16 GiB] */
    uint64_t max_milliseconds; /* longest time of a call, checked between passes [0: no limit] */
    uint32_t threads;          /* at most 256; no result depends on the number [0: one for each core] */
    uint32_t effort;           /* rounds of refinement in encoding, at most 255 [0] */
    uint32_t rounding;         /* of latents in encoding: MLIC_RATE_DISTORTION or MLIC_NEAREST [MLIC_RATE_DISTORTION] */
    uint32_t reserved;         /* must be 0 [0] */
} mlic_options;

/* Sets options to their defaults: mlic_options_init(&options, sizeof options). Writes exactly struct_size bytes; those that the library does not know
 * become zero. Does nothing if `options` is null or too short for struct_size itself. */
void mlic_options_init(mlic_options *options, size_t struct_size);

/* Makes a codec, which includes reading and verifying its model. Null options stand for the defaults. On failure *codec is null. With the backend cuda, this
 * call and all calls with the codec make the device's primary context current on their thread, as the CUDA runtime does. */
mlic_status mlic_codec_create(const mlic_options *options, mlic_codec **codec);
/* Destroys a codec, or does nothing if it is null. No call may be using the codec. Its threads end by themselves a little later: do not unload the library. */
void mlic_codec_destroy(mlic_codec *codec);
/* The id of the codec's model, 12 hexadecimal digits; valid as long as the codec. Null if `codec` is null. */
const char *mlic_codec_model_id(const mlic_codec *codec);
/* The quality_index of the codec's streams at quality 100; one step of the index is thus 100 divided by this number. 0 if the model has only one quality, or
 * if `codec` is null. */
uint32_t mlic_codec_quality_steps(const mlic_codec *codec);

/* Callback for the steps of a call, invoked on a thread of the codec or of the caller, never concurrently within a call. Any result but 0 ends the call with
 * MLIC_CANCELLED. When a stage begins, pass_count is 0; when a pass is done, `pass` is its number, counted from 1. A running pass or stage is not
 * interrupted. `step` must return: no exception and no longjmp may leave it. */
typedef struct mlic_watch {
    int32_t (*step)(void *user, const char *stage, uint32_t pass, uint32_t pass_count);
    void *user;
} mlic_watch;

/* A picture to encode: 8 bits per sample, interleaved. */
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

/* Bytes that the library has allocated; release them with mlic_bytes_free(). */
typedef struct mlic_bytes {
    uint8_t *data;
    size_t len;
} mlic_bytes;

/* Releases the bytes and sets both members to zero. Does nothing if `bytes` is null, or if the bytes were released already. */
void mlic_bytes_free(mlic_bytes *bytes);

/* Encodes a picture at a quality of 0 to 100. `watch` may be null. On failure *stream is empty. */
mlic_status mlic_encode(const mlic_codec *codec, const mlic_picture *picture, float quality, const mlic_watch *watch, mlic_bytes *stream);

/* Encodes a picture at the highest quality whose stream has at most limit_bytes bytes, metadata included, by trying about eight qualities; MLIC_BUDGET if no
 * quality fits. Passes are counted anew at each quality. `watch` and *stream are as in mlic_encode(). */
mlic_status mlic_encode_within(const mlic_codec *codec, const mlic_picture *picture, uint64_t limit_bytes, const mlic_watch *watch,
                               mlic_bytes *stream);

/* The header of a stream, which has a checksum of its own. */
typedef struct mlic_header {
    uint32_t width;
    uint32_t height;
    uint32_t channels;      /* 3: R G B; 1: gray */
    uint32_t quality_index; /* 0 to mlic_codec_quality_steps() of the stream's model */
    char model_id[16];      /* 12 hexadecimal digits */
} mlic_header;

/* Reads the header of a stream, for which its first 32 bytes are enough. */
mlic_status mlic_read_header(const uint8_t *stream, size_t stream_len, mlic_header *header);

/* Memory for a decoded picture. */
typedef struct mlic_canvas {
    uint32_t width;      /* the width of the stream */
    uint32_t height;     /* the height of the stream */
    uint32_t channels;   /* 3, also for a gray picture, or 1 if the stream is gray */
    size_t stride_bytes; /* from one row to the next, at least width * channels; bytes between rows are not touched */
    uint8_t *samples;    /* height rows, which need not be initialized */
} mlic_canvas;

/* How much of a stream could be decoded. */
typedef struct mlic_outcome {
    int32_t has_picture;   /* 1 if the canvas was written; 0 if it was not touched */
    uint32_t whole_slices; /* latent slices whose symbols are all present */
    uint32_t slice_count;  /* latent slices of the model */
} mlic_outcome;

/* Decodes a stream onto a canvas. `watch` and `outcome` may be null. From a truncated stream (MLIC_TRUNCATED) the picture is made of the slices that are
 * whole, provided that z is; damage before the cut shows as a wrong picture, since checksums cover whole streams. Metadata is ignored. */
mlic_status mlic_decode(const mlic_codec *codec, const uint8_t *stream, size_t stream_len, const mlic_watch *watch,
                        const mlic_canvas *canvas, mlic_outcome *outcome);

/* Kinds of metadata that a stream may have. */
#define MLIC_ICC 1u
#define MLIC_EXIF 2u
#define MLIC_XMP 3u

/* Finds the metadata of a kind in a stream: sets *data to a pointer into `stream` and *len to the length, or to null and 0 if there is none of that kind. */
mlic_status mlic_find_metadata(const uint8_t *stream, size_t stream_len, uint32_t kind, const uint8_t **data, size_t *len);

#ifdef __cplusplus
}
#endif
#endif

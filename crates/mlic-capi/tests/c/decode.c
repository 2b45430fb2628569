/* `decode STREAM [MODEL]` writes a picture as PPM, or PGM if it is gray, to standard output. Without MODEL, a model package, it uses the library's own. */
#include <stdio.h>
#include <stdlib.h>

#include "mlic.h"

/* A whole file; null if it cannot be read or is empty. */
static uint8_t *read_file(const char *path, size_t *len) {
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = NULL;
    long end = 0;
    if (file == NULL) return NULL;
    if (fseek(file, 0, SEEK_END) == 0) end = ftell(file);
    if (end > 0) bytes = malloc((size_t)end);
    rewind(file);
    if (bytes != NULL && fread(bytes, 1, (size_t)end, file) != (size_t)end) {
        free(bytes);
        bytes = NULL;
    }
    fclose(file);
    *len = (size_t)end;
    return bytes;
}

static mlic_status decode(const mlic_codec *codec, const uint8_t *stream, size_t len) {
    mlic_header header;
    mlic_status status = mlic_read_header(stream, len, &header);
    if (status != MLIC_OK) return status;
    size_t row_len = (size_t)header.width * header.channels, size = row_len * header.height;
    mlic_canvas canvas = {header.width, header.height, header.channels, row_len, malloc(size)};
    if (canvas.samples == NULL) return MLIC_BUDGET;
    status = mlic_decode(codec, stream, len, NULL, &canvas, NULL);
    if (status == MLIC_OK) {
        printf("P%d\n%u %u\n255\n", header.channels == 1 ? 5 : 6, header.width, header.height);
        if (fwrite(canvas.samples, 1, size, stdout) != size || fflush(stdout) != 0) status = MLIC_OTHER;
    }
    free(canvas.samples);
    return status;
}

int main(int argc, char **argv) {
    mlic_options options;
    mlic_codec *codec = NULL;
    size_t len = 0;
    uint8_t *stream = argc == 2 || argc == 3 ? read_file(argv[1], &len) : NULL;
    if (stream == NULL) {
        fprintf(stderr, "usage: decode STREAM [MODEL] > PICTURE\n");
        return MLIC_USAGE;
    }
    mlic_options_init(&options, sizeof options);
    if (argc == 3) options.model_path = argv[2];
    mlic_status status = mlic_codec_create(&options, &codec);
    if (status == MLIC_OK) status = decode(codec, stream, len);
    if (status != MLIC_OK) fprintf(stderr, "decode: %s\n", mlic_last_error());
    mlic_codec_destroy(codec);
    free(stream);
    return status;
}

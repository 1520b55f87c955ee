/* zlib; see gzip.h. */
#include "crypto/gzip.h"

#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

#include "base/buf.h"
#include "base/xmem.h"

enum {
    WINDOW_BITS = 15 + 16, /* the largest window; 16: with gzip's header and checksum */
    MEM_LEVEL = 8,
    ROOM = 65536, /* for what a stream gives at a time */
};

struct gzip_stream {
    z_stream z;
};

int gzip_compress(const void *data, size_t len, int level, struct buf *out, struct err *err)
{
    z_stream stream = {0};
    if (len > UINT_MAX / 2) {
        return err_set(err, ERR_LIMIT, "%zu bytes are too many to compress at once", len);
    }
    if (deflateInit2(&stream, level, Z_DEFLATED, WINDOW_BITS, MEM_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK) {
        return err_set(err, ERR_LIMIT, "no memory to compress %zu bytes", len);
    }
    size_t bound = deflateBound(&stream, (uLong)len);
    stream.next_in = (Bytef *)data; /* zlib does not write there */
    stream.avail_in = (uInt)len;
    stream.next_out = (Bytef *)buf_reserve(out, bound);
    stream.avail_out = (uInt)bound;
    int status = deflate(&stream, Z_FINISH);
    out->len += bound - stream.avail_out;
    (void)deflateEnd(&stream); /* complains only about streams that have not ended */
    return status == Z_STREAM_END
               ? 0
               : err_set(err, ERR_INTERNAL, "compress %zu bytes: zlib says %d", len, status);
}

struct gzip_stream *gzip_stream_new(int level)
{
    struct gzip_stream *stream = xcalloc(1, sizeof(*stream));
    if (deflateInit2(&stream->z, level, Z_DEFLATED, WINDOW_BITS, MEM_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK) {
        free(stream);
        return NULL;
    }
    return stream;
}

void gzip_stream_free(struct gzip_stream *stream)
{
    if (stream != NULL) {
        (void)deflateEnd(&stream->z); /* complains only about streams that have not ended */
        free(stream);
    }
}

int gzip_stream_write(struct gzip_stream *stream, const void *data, size_t len, bool is_last, struct buf *out,
                      struct err *err)
{
    z_stream *z = &stream->z;
    if (len > UINT_MAX) {
        return err_set(err, ERR_LIMIT, "%zu bytes are too many to compress at once", len);
    }
    z->next_in = (Bytef *)data; /* zlib does not write there */
    z->avail_in = (uInt)len;
    int status = Z_OK;
    do {
        z->next_out = (Bytef *)buf_reserve(out, ROOM);
        z->avail_out = ROOM;
        status = deflate(z, is_last ? Z_FINISH : Z_NO_FLUSH);
        out->len += ROOM - z->avail_out;
    } while (status == Z_OK && z->avail_out == 0);
    bool is_done = is_last ? status == Z_STREAM_END : status == Z_OK || status == Z_BUF_ERROR;
    return is_done ? 0 : err_set(err, ERR_INTERNAL, "compress %zu bytes: zlib says %d", len, status);
}

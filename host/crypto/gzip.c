/* zlib; see gzip.h. */
#include "crypto/gzip.h"

#include <limits.h>
#include <zlib.h>

#include "base/buf.h"

enum {
    WINDOW_BITS = 15 + 16, /* the largest window; 16: with gzip's header and checksum */
    MEM_LEVEL = 8,
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

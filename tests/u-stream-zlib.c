/* The tests of u-stream once more with zlib as the engine, where the machine has libdeflate. */
#undef HAVE_LIBDEFLATE
#include "lib/stream/codec.c" /* instead of the library's */
#include "tests/u-stream.c"

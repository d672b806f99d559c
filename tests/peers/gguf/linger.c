/* Preloaded into llama.cpp's programs: their log thread is not joined at exit, so the last lines of
   output are lost now and then. A process that lives a moment longer prints them. */
#include <unistd.h>

__attribute__((destructor)) static void Linger(void) { usleep(400000); }

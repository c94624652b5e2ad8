// What the system says of the processor's caches (Linux: Documentation/ABI/testing/sysfs-devices-system-cpu).
#define _GNU_SOURCE
#include "CKernels.h"
#include <sched.h>
#include <stdio.h>

/// Reads `field` of cache `index` of a processor: a number, then perhaps K or M. 0 if there is none.
static long long cache_field(int processor, int index, const char *field) {
  char path[128];
  snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cache/index%d/%s", processor, index, field);
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  long long value = 0;
  char unit = 0;
  int found = fscanf(file, "%lld%c", &value, &unit);
  fclose(file);
  if (found < 1) return 0;
  return unit == 'K' ? value << 10 : unit == 'M' ? value << 20 : value;
}

long long graft_last_cache_bytes(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set)) return 0;
  long long total = 0;
  for (int processor = 0; processor < CPU_SETSIZE; ++processor) {
    if (!CPU_ISSET(processor, &set)) continue;
    int last = -1;
    for (int index = 0; index < 8 && cache_field(processor, index, "level") > 0; ++index)
      if (last < 0 || cache_field(processor, index, "level") > cache_field(processor, last, "level")) last = index;
    if (last < 0) continue;
    // A shared cache is counted once: by the first of our processors that its list names.
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cache/index%d/shared_cpu_list", processor, last);
    FILE *file = fopen(path, "r");
    int counts = 1;
    if (file) {
      int from, to;
      char separator = ',';
      while (counts && separator == ',' && fscanf(file, "%d", &from) == 1) {
        to = from;
        separator = 0;
        if (fscanf(file, "%c", &separator) == 1 && separator == '-') {
          if (fscanf(file, "%d", &to) != 1) break;
          separator = 0;
          if (fscanf(file, "%c", &separator) != 1) separator = 0;
        }
        for (int other = from; other <= to && other < processor; ++other)
          if (other >= 0 && other < CPU_SETSIZE && CPU_ISSET(other, &set)) counts = 0;
      }
      fclose(file);
    }
    if (counts) total += cache_field(processor, last, "size");
  }
  return total;
}

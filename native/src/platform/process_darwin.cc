#include <mach/mach.h>
#include <pthread.h>
#include <pthread/qos.h>

#include "edgemoe/platform/process.h"
#include "edgemoe/platform/thread.h"

namespace edgemoe::platform {

void serve_computation() { ::pthread_set_qos_class_self_np(QOS_CLASS_USER_INITIATED, 0); }

ProcessMemory process_memory() {
  task_vm_info_data_t info{};
  mach_msg_type_number_t count = TASK_VM_INFO_COUNT;
  if (::task_info(mach_task_self(), TASK_VM_INFO, reinterpret_cast<task_info_t>(&info), &count) != KERN_SUCCESS) return {};
  return {info.resident_size, info.phys_footprint};
}

}  // namespace edgemoe::platform

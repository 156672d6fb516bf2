// SPDX-License-Identifier: GPL-2.0-only
#include <uapi/asm-generic/errno.h>
#define ENOTSUPP 524
#define EPROBE_DEFER 517
#define ENOIOCTLCMD 515

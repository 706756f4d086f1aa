#include "diva_kernels.h"

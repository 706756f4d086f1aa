// Backward functions of the activations: DK_THRESHOLD_BACKWARD .. of elementwise.h.
#include "elementwise_activation.h"
#include "elementwise_loop.h"

namespace dk {

template <class T> Entry<T> backward_entry(int f) { return activation_backward::entry<Loops<T>>(f); }
template Entry<float> backward_entry<float>(int);
template Entry<double> backward_entry<double>(int);

}  // namespace dk

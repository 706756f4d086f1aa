// Backward functions of the activations: DK_THRESHOLD_BACKWARD .. of elementwise.h.
#include "elementwise_pass.h"

#include "../native/elementwise_activation.h"

#if DK_HOST
namespace dk {

template <class T> PassEntry<T> backward_pass(int f) { return activation_backward::entry<Passes<T>>(f); }
template PassEntry<float> backward_pass<float>(int);
template PassEntry<double> backward_pass<double>(int);

}  // namespace dk
#endif

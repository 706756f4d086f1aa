// Activations: DK_RELU .. of elementwise.h.
#include "elementwise_activation.h"
#include "elementwise_loop.h"

namespace dk {

template <class T> Entry<T> activation_entry(int f) { return activation::entry<Loops<T>>(f); }
template Entry<float> activation_entry<float>(int);
template Entry<double> activation_entry<double>(int);

}  // namespace dk

"""Mean and standard deviation of the pictures that encoders were trained on, by channel, in 0..1."""

Statistics = tuple[tuple[float, ...], tuple[float, ...]]

IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
GREY: Statistics = ((0.449,), (0.226,))  # the means of ImageNet's three
